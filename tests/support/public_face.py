"""Every public name, used as a user does.

mypy checks this file.  In a line that ends in `type: ignore` the call is wrong,
and mypy complains where it finds nothing wrong.  The other functions also run,
in tests/properties/public_face_test.py.
"""

from collections.abc import Mapping
from typing import Any
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

import adq_jax


def make_models() -> list[adq_jax.VQVAE]:
  """Returns models with each slot of each quantizer filled."""
  structures = adq_jax.codebook_structures(16)
  quantizers: list[adq_jax.Quantizer] = [
    adq_jax.VectorQuantizer(
      16,
      8,
      update=adq_jax.EmaUpdate(decay=0.9),
      placement=adq_jax.Placement(init="data", revive_below=0.1),
      estimator=adq_jax.StraightThrough(),
      codewords=adq_jax.FreeCodewords(),
      assignment=adq_jax.Nearest(),
      similarity=adq_jax.Euclidean(),
      price=adq_jax.CodedPrice(1e-3),
    ),
    adq_jax.AdaptiveQuantizer(
      structures, 8, adq_jax.AttentionChoice(), price=adq_jax.NoPrice()
    ),
    adq_jax.AdaptiveQuantizer(
      structures,
      features=8,
      choice=adq_jax.DistortionChoice(rate_weight=1e-3),
      update=adq_jax.GradientUpdate(),
    ),
    adq_jax.ResidualQuantizer(
      2,
      16,
      8,
      update=adq_jax.SmoothedEmaUpdate(),
      price=adq_jax.NominalPrice(1e-3),
    ),
    adq_jax.ResidualQuantizer(2, 16, 8, depth_choice=adq_jax.AllStages()),
    adq_jax.VectorQuantizer(
      16, 8, similarity=adq_jax.Cosine(), estimator=adq_jax.RotationTrick()
    ),
    adq_jax.VectorQuantizer(
      16,
      8,
      update=adq_jax.FrozenUpdate(),
      codewords=adq_jax.LinearCodewords(),
      estimator=adq_jax.Synchronized(weight=0.5),
    ),
    adq_jax.VectorQuantizer(
      16,
      8,
      update=adq_jax.GradientUpdate(codebook_cost=0),
      codewords=adq_jax.AffineCodewords(rate=2),
      estimator=adq_jax.Directional(),
    ),
    adq_jax.VectorQuantizer(
      16, 8, assignment=adq_jax.SampledCodes(num_samples=2, temperature=0.5)
    ),
    adq_jax.RandomProjectionQuantizer(16, 8, features=8, num_codebooks=2),
    adq_jax.ProductQuantizer(
      2, adq_jax.VectorQuantizer(16, 4), kept=adq_jax.RandomKept(1e-3)
    ),
    adq_jax.ProductQuantizer(
      2, adq_jax.FSQ((5, 5)), features=8, kept=adq_jax.AllKept()
    ),
    adq_jax.ProductQuantizer(
      2, adq_jax.FSQ((5, 5)), features=8, split=adq_jax.RandomProjections()
    ),
    adq_jax.ProductQuantizer(
      2, adq_jax.FSQ((5, 5)), features=8, split=adq_jax.Slices()
    ),
    adq_jax.ProductQuantizer(
      2, adq_jax.ResidualQuantizer(2, 16, 4), features=8
    ),
    adq_jax.FSQ(adq_jax.FSQ.recommended[8], features=8),
    adq_jax.ResidualFSQ((8, 5, 5), features=8, num_stages=3),
    adq_jax.LFQ(18, features=8, entropy_weight=0.1),
    adq_jax.BSQ(18, features=8, bits_per_group=9),
    adq_jax.CategoricalQuantizer(
      16,
      8,
      scores=adq_jax.LinearScores(),
      posterior=adq_jax.DirichletPosterior(kl_weight=1e-7),
      relaxation=adq_jax.SoftRelaxation(),
    ),
    adq_jax.CategoricalQuantizer(
      16,
      8,
      scores=adq_jax.DistanceScores(initial_variance=10.0),
      posterior=adq_jax.SoftmaxPosterior(kl_weight=1.0),
      relaxation=adq_jax.HardRelaxation(),
    ),
    adq_jax.CategoricalQuantizer(
      16, 8, scores=adq_jax.PositionDistanceScores()
    ),
    adq_jax.CategoricalQuantizer(
      16, 8, scores=adq_jax.HyperbolicScores(curvature=1.0)
    ),
    adq_jax.QINCo(2, 16, 8, network=adq_jax.QINCoNetwork(1, hidden=8)),
    adq_jax.QINCo(2, 16, 8, network=adq_jax.QINCo2Network(1, 8, 8)),
  ]
  initial = adq_jax.InitialValues()
  return [
    adq_jax.VQVAE(quantizer, features=8, initial=initial, dtype=jnp.bfloat16)
    for quantizer in quantizers
  ]


def use_results(
  quantized: adq_jax.Quantized, codes: adq_jax.AdaptiveCodes
) -> jax.Array:
  """Returns a number from a result and codes of a pool."""
  made = adq_jax.Reconstruction(
    images=quantized.values,
    squared_error=jnp.zeros(1),
    mse=quantized.metrics["quantization_error"],
    loss=quantized.loss,
    quantized=quantized,
  )
  return made.loss + codes.book.sum() + codes.index.sum()


def use_codewords(z: jax.Array, codewords: np.ndarray) -> jax.Array:
  """Returns codes of points, whether they are JAX's or NumPy's."""
  state: adq_jax.Codebook = adq_jax.codebook_from(codewords, cluster_size=2.0)
  halves = adq_jax.split_codebook(state, 2)
  state = adq_jax.freeze_codewords(
    state, adq_jax.merge_codebook(halves), np.ones(len(codewords), bool)
  )
  counts = adq_jax.code_counts(np.zeros(3, np.int32), len(codewords))
  learned = adq_jax.Statistics(counts, sums=state.embedding_sum)
  codes = adq_jax.nearest_codes(z, codewords, penalty=learned.counts)
  index = adq_jax.index_codebook(state.embedding)
  return codes + adq_jax.nearest_codes(np.asarray(codewords), index)


def start_qinco() -> tuple[adq_jax.Quantizer, Mapping[str, Any]]:
  """Returns a quantizer, and variables that start as another's."""
  residual = adq_jax.ResidualQuantizer(2, 16, 8)
  quantizer = adq_jax.QINCo(2, 16, 8, num_candidates=4, beam_size=2)
  key = jax.random.key(0)
  trained = residual.init(key, jnp.zeros((1, 8)))
  return quantizer, adq_jax.qinco_from_residual(
    key, quantizer, residual, trained
  )


def use_figures(counts: np.ndarray) -> list[jax.Array]:
  """Returns figures of a histogram."""
  return [
    adq_jax.coded_rate([counts], [counts]),
    adq_jax.entropy_bits(counts),
    adq_jax.gradient_gap(jnp.sum, jnp.round, jnp.ones(3)),
    adq_jax.nominal_rate(counts, codebook_sizes=(4, 8)),
    adq_jax.perplexity(counts),
    adq_jax.psnr(0.5),
    adq_jax.usage(counts),
  ]


def use_the_rest(z: jax.Array) -> tuple[str, float, jax.Array]:
  """Returns a title, an optimal size, and what attention says."""
  adq_jax.check_replicated({"z": z})
  stream = adq_jax.Stream("index", alphabet=16)
  fits = adq_jax.optimal_codebook_size([1, 2, 4], [5.0, 4.0, 5.0])
  selector = adq_jax.AttentionSelector(num_codebooks=2)
  weights, _ = selector.init_with_output(jax.random.key(0), z)
  return stream.title, fits.fit.optimal_size, weights


if TYPE_CHECKING:
  # What is wrong, and found.
  points = jnp.zeros((2, 8))
  quantizer = adq_jax.VectorQuantizer(16, 8)
  adq_jax.VectorQuantizer("16", 8)  # type: ignore[arg-type]
  adq_jax.VectorQuantizer(16)  # type: ignore[call-arg]
  adq_jax.VectorQuantizer(16, 8, update=0.9)  # type: ignore[arg-type]
  adq_jax.VectorQuantizer(16, 8, featurs=4)  # type: ignore[call-arg]
  adq_jax.AdaptiveQuantizer((16, 8), 8)  # type: ignore[arg-type]
  adq_jax.ResidualQuantizer(2, 16, 8, price=0.1)  # type: ignore[arg-type]
  adq_jax.VQVAE(quantizer, features="8")  # type: ignore[arg-type]
  adq_jax.VQVAE("vector")  # type: ignore[arg-type]
  adq_jax.EmaUpdate(decay="0.9")  # type: ignore[arg-type]
  adq_jax.Placement(revive=0.1)  # type: ignore[call-arg]
  adq_jax.Stream("index", "16")  # type: ignore[arg-type]
  adq_jax.AdaptiveCodes(points)  # type: ignore[call-arg]
  adq_jax.nearest_codes(points, 3)  # type: ignore[arg-type]
  adq_jax.nearest_codes(points, points, "dense")  # type: ignore[call-arg]
  adq_jax.codebook_from([[1.0]])  # type: ignore[arg-type]
  _ = adq_jax.usage(points).codes  # type: ignore[attr-defined]
  _ = quantizer(points).value  # type: ignore[attr-defined]
  quantizer(points, trains=True)  # type: ignore[call-arg]
  quantizer.encode(points, 0.1)  # type: ignore[call-arg]
