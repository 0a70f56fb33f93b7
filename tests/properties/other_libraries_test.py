"""Quantizers find what those of other libraries find, given equal weights.

A step is compared whole: values, codes, loss, gradients and the next codebooks.
Both compute in float32, in another order.  What each peer does in another way
is undone here, and said.
"""

import functools
import sys
from unittest import mock

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
vqp = pytest.importorskip("vector_quantize_pytorch")

from adq_jax import BSQ  # noqa: E402
from adq_jax import FSQ  # noqa: E402
from adq_jax import LFQ  # noqa: E402
from adq_jax import ProductQuantizer  # noqa: E402
from adq_jax import RandomProjectionQuantizer  # noqa: E402
from adq_jax import ResidualQuantizer  # noqa: E402
from adq_jax import VectorQuantizer  # noqa: E402
from tests.support import small  # noqa: E402

_C, _N, _STAGES = 6, 16, 3
_LEVELS = (8, 5, 4)
# Theirs has no codes of less than 1e-5 in its entropies; so warm that none is.
_TEMPERATURE = 4.0
_KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


def _fsq():
  theirs = vqp.FSQ(list(_LEVELS), dim=_C)
  # Theirs spreads the outermost levels by the paper's margin, instead of
  # holding points within them by it.
  theirs.bound = functools.partial(theirs.bound, eps=-1e-3)
  return theirs


def _binary(**options):
  module = vqp.LFQ(
    dim=_C, codebook_size=_N, commitment_loss_weight=0.25, **options
  )
  return _Warm(module)


class _Warm(torch.nn.Module):
  def __init__(self, module):
    super().__init__()
    self.module = module
    self.project_in, self.project_out = module.project_in, module.project_out

  def forward(self, z):
    return self.module(z, inv_temperature=1 / _TEMPERATURE)


def _vector():
  return vqp.VectorQuantize(_C, _N, commitment_weight=0.25, **_VQ)


def _heads():
  return vqp.VectorQuantize(
    _C,
    _N,
    heads=2,
    codebook_dim=_C // 2,
    separate_codebook_per_head=True,
    commitment_weight=0.25,
    **_VQ,
  )


def _residual():
  return vqp.ResidualVQ(
    dim=_C,
    num_quantizers=_STAGES,
    codebook_size=_N,
    commitment_weight=0.25,
    **_VQ,
  )


# The straight-through estimator; averages without the smoothing of counts.
_VQ = {"decay": 0.99, "rotation_trick": False, "eps": 0.0}
_ENTROPIES = {"temperature": _TEMPERATURE, "commitment_cost": 0.25}
_STEPS = np.array([1, 8, 40])  # of the index of a code of `_LEVELS`
_POWERS = 2 ** np.arange(4)[::-1]  # the first bit is the highest
# Ours, theirs, what makes theirs' index of our code, and whether values have
# the same gradient: BSQ's is divided by sqrt(D), as in the paper, and stages
# have one straight-through estimator, where theirs has one for each.
CASES = {
  "vector": (VectorQuantizer(_N, _C), _vector, None, True),
  "residual": (ResidualQuantizer(_STAGES, _N, _C), _residual, None, False),
  "product": (
    ProductQuantizer(2, VectorQuantizer(_N, _C // 2)),
    _heads,
    None,
    True,
  ),
  "fsq": (FSQ(_LEVELS, _C), _fsq, _STEPS, True),
  "lfq": (LFQ(4, _C, **_ENTROPIES), _binary, _POWERS, True),
  "bsq": (
    BSQ(4, _C, **_ENTROPIES),
    functools.partial(_binary, spherical=True),
    _POWERS,
    False,
  ),
}


@pytest.mark.slow
class OtherLibrariesTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_a_step_of_vector_quantize_pytorch(self, name):
    ours, make, steps, is_same_gradient = CASES[name]
    theirs = make()
    rng = np.random.default_rng(0)
    z, weights = rng.normal(size=(2, 300, _C)).astype(np.float32)
    weights *= is_same_gradient
    variables = _moved(ours.init(_KEYS, z))
    _copy(variables, theirs)
    train = jax.jit(functools.partial(small.train, ours))
    (of_params, of_z), result, following = train(variables, z, weights=weights)

    points = _tensor(z)[None].requires_grad_()
    values, index, *losses = theirs(points)
    loss = sum((x.mean() for x in losses), torch.zeros(()))
    ((values[0] * _tensor(weights)).mean() + loss).backward()
    codes = result.codes if steps is None else (result.codes * steps).sum(-1)
    np.testing.assert_array_equal(index[0], codes)
    _assert_close(values[0], result.values)
    _assert_close(loss, result.loss)
    _assert_close(points.grad[0], of_z)
    for layer, gradient in of_params.items():
      module = getattr(theirs, layer)
      _assert_close(module.weight.grad.T, gradient["kernel"])
      _assert_close(module.bias.grad, gradient["bias"])
    for book, state in zip(_books(theirs), _states(following), strict=True):
      for name, x in book.items():
        _assert_close(x, state[name])

  def test_labels_of_random_projections(self):
    # Of several codebooks theirs projects a second time.
    ours = RandomProjectionQuantizer(_N, 3, _C)
    z = np.random.default_rng(0).normal(size=(300, _C)).astype(np.float32)
    variables = ours.init(_KEYS, z)
    constants = variables["constants"]
    theirs = vqp.RandomProjectionQuantizer(
      dim=_C, codebook_size=_N, codebook_dim=3, norm=False
    )
    theirs.rand_projs.copy_(_tensor(constants["projection"]).transpose(0, 1))
    directions = torch.nn.functional.normalize(
      _tensor(constants["embedding"]), dim=-1
    )
    theirs.vq._codebook.embed.copy_(directions)
    labels = ours.apply(variables, z, method="encode")
    found = theirs(_tensor(z)[None]).reshape(labels.shape)
    np.testing.assert_array_equal(found, labels)

  def test_codes_and_values_of_encodec(self):
    # What reads sound is not needed, and wants a PyTorch with CUDA.
    with mock.patch.dict(sys.modules, torchaudio=mock.MagicMock()):
      core_vq = pytest.importorskip("encodec.quantization.core_vq")
    ours = ResidualQuantizer(_STAGES, _N, _C)
    theirs = core_vq.ResidualVectorQuantization(
      num_quantizers=_STAGES, dim=_C, codebook_size=_N
    ).eval()
    z = np.random.default_rng(0).normal(size=(300, _C)).astype(np.float32)
    variables = ours.init(_KEYS, z)
    for layer, state in zip(theirs.layers, _states(variables), strict=True):
      layer._codebook.embed.copy_(_tensor(state["embedding"]))
      layer._codebook.inited.fill_(1)
    channels_first = _tensor(z).T[None]
    codes = ours.apply(variables, z, method="encode")
    for num_stages in range(1, _STAGES + 1):
      found = theirs.encode(channels_first, num_stages)[:, 0].T
      np.testing.assert_array_equal(found, codes[:, :num_stages])
      _assert_close(
        theirs.decode(found.T[:, None])[0].T,
        ours.apply(variables, codes, num_stages=num_stages, method="decode"),
      )


def _moved(variables):
  """Variables with other biases than zeros."""
  leaves, tree = jax.tree.flatten(variables.get("params", {}))
  rng = np.random.default_rng(1)
  moved = [
    x + 0.1 * rng.normal(size=x.shape).astype(np.float32) for x in leaves
  ]
  return {**variables, "params": tree.unflatten(moved)}


def _copy(variables, module):
  with torch.no_grad():
    for layer, params in variables["params"].items():
      getattr(module, layer).weight.copy_(_tensor(params["kernel"]).T)
      getattr(module, layer).bias.copy_(_tensor(params["bias"]))
    for book, state in zip(_books(module), _states(variables), strict=True):
      for name, x in book.items():
        x.copy_(_tensor(state[name]))


def _books(module):
  """The states of their module's codebooks by our names, in order."""
  layers = getattr(module, "layers", [module])
  books = [x._codebook for x in layers if hasattr(x, "_codebook")]
  return [
    {
      "embedding": book.embed[head],
      "embedding_sum": book.embed_avg[head],
      "cluster_size": book.cluster_size[head],
    }
    for book in books
    for head in range(len(book.embed))
  ]


def _states(variables):
  """Our states of codebooks, in order."""
  state = variables.get("codebook", {})
  if "embedding" in state:
    return [state]
  return [state[name] for name in sorted(state)]


def _tensor(x):
  return torch.from_numpy(np.array(x))


def _assert_close(theirs, ours):
  np.testing.assert_allclose(
    theirs.detach().numpy(), jnp.asarray(ours), rtol=1e-5, atol=1e-6
  )
