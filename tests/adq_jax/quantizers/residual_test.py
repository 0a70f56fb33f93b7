import dataclasses
from typing import ClassVar

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_from
from adq_jax import EmaUpdate
from adq_jax import GradientUpdate
from adq_jax import Placement
from adq_jax import ResidualQuantizer
from adq_jax import SmoothedEmaUpdate
from adq_jax.codebook.placement import AbstractPlacement
from tests.support.small import bits
from tests.support.small import make_variables
from tests.support.small import RNGS
from tests.support.small import train

# Of Lee et al.: one codebook for three stages.
SHARED = ((1.0, 0.0), (0.0, 1.0), (-0.25, 0.0), (0.0, 0.25))
OWN = (((1.0,), (-1.0,)), ((0.5,), (-0.5,)), ((0.25,), (-0.25,)))


def variables_of(*codebooks):
  """Variables of a quantizer whose codebooks have these codewords."""
  return {
    "codebook": {
      f"codebooks_{i}": codebook_from(
        jnp.array(codewords, jnp.float32)
      ).to_collection()
      for i, codewords in enumerate(codebooks)
    }
  }


def shared(num_stages=3, **kwargs):
  return ResidualQuantizer(num_stages, 4, 2, shared_codebook=True, **kwargs)


def make(num_stages=3, shape=(6, 5), **kwargs):
  quantizer = ResidualQuantizer(num_stages, 8, 3, **kwargs)
  z = jax.random.normal(jax.random.key(2), (*shape, 3), jnp.float32)
  return quantizer, make_variables(quantizer, z), z


def step(quantizer, variables, z, **kwargs):
  """As `train`, of which one program is made."""
  return jax.jit(lambda v, z: train(quantizer, v, z, **kwargs))(variables, z)


def decode(quantizer, variables, codes, **kwargs):
  return quantizer.apply(variables, codes, method="decode", **kwargs)


@dataclasses.dataclass(frozen=True)
class AsTheyCome(AbstractPlacement):
  """Puts codewords upon the first points, and after a step upon the last."""

  waits_for_data: ClassVar[bool] = True
  is_active: ClassVar[bool] = True

  def before_search(self, make_key, codebook, batch):
    first = batch.points[: len(codebook.embedding)]
    return codebook.replace(embedding=first)

  def after_update(self, make_key, codebook, batch):
    points = jnp.where(batch.is_real[:, None], batch.points, 100.0)
    last = points[-len(codebook.embedding) :]
    return codebook.replace(embedding=last)


class HandComputedTest(parameterized.TestCase):
  def test_a_shared_codebook(self):
    quantizer, variables = shared(), variables_of(SHARED)
    z = jnp.array([[0.7, 0.25]])
    result = jax.jit(quantizer.apply)(variables, z)
    chex.assert_trees_all_equal(result.codes, jnp.array([[0, 2, 3]]))
    for stages, expected, error in (
      (1, (1.0, 0.0), 0.1525),
      (2, (0.75, 0.0), 0.065),
      (3, (0.75, 0.25), 0.0025),
    ):
      values = decode(quantizer, variables, result.codes, num_stages=stages)
      chex.assert_trees_all_equal(values, jnp.array([expected]))
      chex.assert_trees_all_close(
        result.metrics["quantization_error"][stages - 1], error / 2, rtol=1e-5
      )
    chex.assert_trees_all_close(result.loss, 0.25 * 0.22 / 6, rtol=1e-5)
    last = shared(committed="last").apply(variables, z)
    chex.assert_trees_all_close(last.loss, 0.25 * 0.0025 / 2, rtol=1e-4)

  def test_the_commitment_reaches_z_by_every_sum(self):
    z = jnp.array([[0.7, 0.25]])

    def gradient(**kwargs):
      quantizer = shared(commitment_cost=6.0, **kwargs)
      return jax.grad(lambda z: quantizer.apply(variables_of(SHARED), z).loss)(
        z
      )

    # 6 undoes the mean over three stages and two numbers.
    chex.assert_trees_all_close(gradient(), jnp.array([[-0.8, 1.0]]), rtol=1e-5)
    chex.assert_trees_all_close(
      gradient(committed="last"), 3 * 2 * (z - jnp.array([[0.75, 0.25]]))
    )

  def test_a_shared_codebook_makes_one_update_of_all_stages(self):
    quantizer = shared(update=EmaUpdate(decay=0.5))
    *_, after = train(quantizer, variables_of(SHARED), jnp.array([[0.7, 0.25]]))
    chex.assert_trees_all_close(
      after["codebook"]["codebooks_0"]["embedding"],
      jnp.array([[0.85, 0.125], [0.0, 1.0], [-0.275, 0.125], [-0.025, 0.25]]),
      rtol=1e-6,
    )

  def test_codebooks_of_their_own(self):
    quantizer = ResidualQuantizer(3, 2, 1)
    variables = variables_of(*OWN)
    codes = quantizer.apply(
      variables, jnp.array([[0.9], [-1.3]]), method="encode"
    )
    chex.assert_trees_all_equal(codes, jnp.array([[0, 1, 0], [1, 1, 0]]))
    for stages, expected in (
      (1, (1, -1)),
      (2, (0.5, -1.5)),
      (3, (0.75, -1.25)),
    ):
      values = decode(quantizer, variables, codes, num_stages=stages)
      chex.assert_trees_all_equal(values[:, 0], jnp.array(expected, float))
    # The error need not fall: 0.1, 0.4, 0.15 of the first point.

  def test_a_beam_finds_what_greedy_stages_miss(self):
    variables = variables_of(((0.6,), (1.0,), (-0.35,)))
    z = jnp.array([[0.65]])
    for size, codes, value in ((1, [0, 2], 0.25), (2, [1, 2], 0.65)):
      quantizer = ResidualQuantizer(
        2, 3, 1, shared_codebook=True, beam_size=size
      )
      result = quantizer.apply(variables, z)
      chex.assert_trees_all_equal(result.codes, jnp.array([codes]))
      chex.assert_trees_all_close(result.values, jnp.array([[value]]))


class ResidualQuantizerTest(parameterized.TestCase):
  @parameterized.parameters(
    {"stage_dropout": 1.0}, {"shared_codebook": True}, {"beam_size": 3}
  )
  def test_a_step_is_of_codewords_as_they_were(self, **kwargs):
    quantizer, variables, z = make(2, commitment_cost=0.0, **kwargs)
    weights = jax.random.normal(jax.random.key(6), z.shape)
    gradient, result, after = step(quantizer, variables, z, weights=weights)
    before = decode(quantizer, variables, result.codes)
    chex.assert_trees_all_equal(bits(before), bits(result.values))
    moved = decode(quantizer, after, result.codes)
    self.assertGreater(jnp.abs(moved - before).max(), 0)
    # Straight through once, and not once for each stage.
    chex.assert_trees_all_close(gradient[1], weights / z.size, rtol=1e-6)

  @parameterized.parameters(False, True)
  def test_codebooks_learn_as_in_float64(self, is_shared):
    quantizer, variables, z = make(
      2,
      shared_codebook=is_shared,
      stage_dropout=0.7,
      update=EmaUpdate(decay=0.8),
    )
    _, result, after = step(quantizer, variables, z)
    codes = np.asarray(result.codes).reshape(-1, 2)
    self.assertTrue((codes == -1).any())
    left = np.asarray(z, np.float64).reshape(-1, 3)
    totals = {}
    for s in range(2):
      place = 0 if is_shared else s
      state = variables["codebook"][f"codebooks_{place}"]
      codewords = np.asarray(state["embedding"], np.float64)
      counts, sums = totals.setdefault(place, (np.zeros(8), np.zeros((8, 3))))
      used = codes[:, s] >= 0
      np.add.at(counts, codes[used, s], 1)
      np.add.at(sums, codes[used, s], left[used])
      left = left - np.where(used[:, None], codewords[codes[:, s]], 0)
    self.assertLen(after["codebook"], len(totals))
    for place, (counts, sums) in totals.items():
      name = f"codebooks_{place}"
      old = np.asarray(variables["codebook"][name]["embedding"], np.float64)
      size = 0.8 + 0.2 * counts
      moved = (0.8 * old + 0.2 * sums) / size[:, None]
      expected = np.where(counts[:, None] > 0, moved, old)
      found = after["codebook"][name]
      chex.assert_trees_all_close(found["embedding"], expected, rtol=1e-4)
      chex.assert_trees_all_close(found["cluster_size"], size, rtol=1e-5)
      chex.assert_trees_all_equal(result.statistics[place].counts, counts)
    _, again = quantizer.apply(
      variables,
      result.statistics,
      method="update_codebook",
      mutable=["codebook"],
    )
    chex.assert_trees_all_close(again["codebook"], after["codebook"], rtol=1e-6)

  def test_the_codebook_term_trains_each_stage_by_its_points(self):
    quantizer, variables, z = make(
      2, update=GradientUpdate(), commitment_cost=0.0
    )
    params = variables["params"]

    @jax.jit
    def loss(params):
      result = quantizer.apply({**variables, "params": params}, z)
      return result.loss, result.codes

    codes = loss(params)[1].reshape(-1, 2)
    left = z.reshape(-1, 3)
    total, expected = 0.0, {}
    for s in range(2):
      codewords = params[f"codebooks_{s}"]["embedding"]
      difference = codewords[codes[:, s]] - left
      total += jnp.square(difference).mean() / 2
      gradient = jnp.zeros_like(codewords).at[codes[:, s]].add(difference)
      expected[f"codebooks_{s}"] = {"embedding": gradient / left.size}
      left = -difference
    (found, _), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    chex.assert_trees_all_close(
      (found, gradient), (total, expected), rtol=1e-4, atol=1e-7
    )

  def test_the_first_stages_decode_alone(self):
    quantizer, variables, _ = make(features=3)
    codes = jnp.array([[0, 7, 3], [2, 2, 5]])
    values = decode(quantizer, variables, codes)
    chex.assert_trees_all_equal(
      decode(quantizer, variables, codes, num_stages=3), values
    )
    for stages in (1, 2):
      first = decode(quantizer, variables, codes, num_stages=stages)
      self.assertGreater(jnp.abs(first - values).max(), 0.1)
      # Where a model's `decode` has no such argument, codes say it.
      cut = codes.at[..., stages:].set(-1)
      chex.assert_trees_all_equal(decode(quantizer, variables, cut), first)

  def test_a_code_out_of_range_decodes_to_nan(self):
    quantizer, variables, _ = make(num_stages=2)
    codes = jnp.array([[-2, 0], [0, 8], [7, 7], [0, -1]])
    chex.assert_trees_all_equal(
      jnp.isnan(decode(quantizer, variables, codes)).all(axis=-1),
      jnp.array([True, True, False, False]),
    )

  def test_stages_share_a_codebook_or_have_their_own(self):
    for is_shared, count in ((False, 3), (True, 1)):
      quantizer, variables, _ = make(shared_codebook=is_shared)
      self.assertLen(variables["codebook"], count)
    self.assertEqual(
      [(s.name, s.alphabet, s.width, s.coding) for s in quantizer.streams],
      [(f"stage_{i}", 8, 3, "fixed") for i in range(3)],
    )


class DropoutTest(parameterized.TestCase):
  def test_an_example_uses_as_many_stages_everywhere(self):
    quantizer, variables, z = make(2, shape=(40, 3, 2), stage_dropout=1.0)
    program = jax.jit(
      lambda z, index: train(quantizer, variables, z, example_index=index)[1]
    )
    index = jnp.arange(40)
    result = program(z, index)
    depths = np.asarray((result.codes != -1).sum(axis=-1))
    self.assertEqual(set(depths.flat), {1, 2})
    self.assertTrue((depths == depths[:, :1, :1]).all())
    self.assertTrue((result.codes[..., 0] != -1).all())
    other = program(z[::-1], index[::-1])
    chex.assert_trees_all_equal(other.codes[::-1], result.codes)
    evaluated = quantizer.apply(variables, z, method="encode")
    kept = np.asarray(result.codes) != -1
    chex.assert_trees_all_equal(result.codes[kept], evaluated[kept])
    # A stage that is not used adds nothing to the loss.
    errors = [
      np.square(
        z - decode(quantizer, variables, result.codes, num_stages=stages)
      ).mean(axis=-1)
      for stages in (1, 2)
    ]
    used = [depths > s for s in range(2)]
    total = sum(np.where(u, e, 0) for u, e in zip(used, errors, strict=True))
    chex.assert_trees_all_close(result.loss, 0.25 * total.mean() / 2, rtol=1e-5)
    chex.assert_trees_all_close(
      result.metrics["quantization_error"],
      np.array([e[u].mean() for u, e in zip(used, errors, strict=True)]),
      rtol=1e-5,
    )


class PlacementTest(parameterized.TestCase):
  def test_codewords_are_placed_stage_after_stage(self):
    quantizer, variables, z = make(2, placement=AsTheyCome())
    _, result, after = step(quantizer, variables, z)
    points = left = np.asarray(z).reshape(-1, 3)
    total = np.zeros_like(points)
    for s in range(2):
      codewords = left[:8]
      squares = np.square(left[:, None] - codewords[None]).sum(axis=-1)
      codes = squares.argmin(axis=1)
      chex.assert_trees_all_equal(
        np.asarray(result.codes).reshape(-1, 2)[:, s], codes.astype(np.int32)
      )
      chex.assert_trees_all_close(
        after["codebook"][f"codebooks_{s}"]["embedding"], left[-8:], atol=1e-6
      )
      total = total + codewords[codes]
      left = points - total

  def test_a_shared_codebook_is_placed_on_what_all_stages_see(self):
    quantizer, variables, z = make(
      2, shape=(8,), placement=AsTheyCome(), shared_codebook=True
    )
    *_, after = step(quantizer, variables, z)
    # The points themselves are the first codewords, so that nothing is left of
    # them for the second stage, whose points are the last of both.
    chex.assert_trees_all_equal(
      after["codebook"]["codebooks_0"]["embedding"], jnp.zeros((8, 3))
    )

  def test_stages_that_start_on_data_each_take_a_part_of_the_error(self):
    quantizer, variables, z = make(
      2, shape=(50, 4), placement=Placement("data", 0.1)
    )
    program = jax.jit(lambda variables: train(quantizer, variables, z)[1:])
    for _ in range(20):
      result, variables = program(variables)
    errors = result.metrics["quantization_error"]
    self.assertLess(errors[1], 0.6 * errors[0])
    sizes = [
      np.linalg.norm(state["embedding"], axis=-1).mean()
      for state in variables["codebook"].values()
    ]
    self.assertGreater(sizes[0], 1.4 * sizes[1])

  def test_each_stage_starts_by_kmeans_on_what_those_before_it_left(self):
    def first_step(init, **kwargs):
      quantizer, variables, z = make(
        2, shape=(50, 4), placement=Placement(init), **kwargs
      )
      program = jax.jit(
        lambda variables, z: quantizer.apply(
          variables, z, train=True, mutable=["codebook"], rngs=RNGS
        )[0]
      )
      result = program(variables, z)
      return result.metrics["quantization_error"], result.codes[..., 0]

    data, _ = first_step("data")
    errors, codes = first_step("kmeans")
    self.assertTrue((errors < 0.9 * data).all())
    self.assertLess(errors[1], 0.6 * errors[0])
    # A shared codebook starts on the points of the first stage.
    of_shared, codes_of_shared = first_step("kmeans", shared_codebook=True)
    chex.assert_trees_all_equal(codes_of_shared, codes)
    chex.assert_trees_all_close(of_shared[0], errors[0])


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_stages": 0}, "num_stages is 0; it must be an integer of at least 1"),
    ({"num_stages": 257}, "num_stages is 257; it must be at most 256"),
    ({"codebook_size": 0}, "codebook_size is 0; it must be"),
    ({"embedding_dim": 1.5}, "embedding_dim is 1.5; it must be"),
    ({"features": 0}, "features is 0; it must be"),
    ({"shared_codebook": "no"}, "shared_codebook is 'no'; it must be True or"),
    ({"beam_size": 0}, "beam_size is 0; it must be"),
    ({"stage_dropout": -0.1}, "stage_dropout is -0.1; it must be at least 0"),
    ({"stage_dropout": 2}, r"stage_dropout is 2; it must be in \[0, 1\]"),
    ({"stage_dropout": np.nan}, "stage_dropout is nan; it must be at least 0"),
    ({"committed": "some"}, "committed is 'some'; it must be one of 'all', 'l"),
    ({"commitment_cost": -1}, "commitment_cost is -1; it must be"),
    ({"update": "ema"}, "update is 'ema'; it must be an AbstractUpdate, such"),
    ({"placement": Placement("zero")}, "placement.init is 'zero'; it must be"),
    (
      {"placement": Placement("data"), "update": SmoothedEmaUpdate()},
      "update is Smoothed.* it must be an EmaUpdate or .* where placement is",
    ),
    ({"estimator": None}, "estimator is None; it must be an AbstractEstimator"),
    ({"axis_name": 3}, "axis_name is 3; it must be the name of a mapped axis"),
  )
  def test_a_field_that_does_not_fit_is_named(self, fields, message):
    fields = {"num_stages": 2, "codebook_size": 4, "embedding_dim": 3} | fields
    with self.assertRaisesRegex(ValueError, f"^{message}"):
      ResidualQuantizer(**fields).check()

  def test_what_does_not_fit_is_named(self):
    quantizer, variables, z = make(stage_dropout=0.5)
    for codes, message in (
      (jnp.zeros(()), "codes has dtype float32; it must have an integer"),
      (jnp.zeros((), int), r"codes has shape \(\); its last axis must be 3"),
      (jnp.zeros(2, int), r"codes has shape \(2,\); its last axis must be 3"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        decode(quantizer, variables, codes)
      with self.assertRaisesRegex(ValueError, message):
        quantizer.to_streams(codes)
    codes = jnp.zeros((2, 3), int)
    for stages, message in (
      (4, "num_stages is 4; it must be at most 3, the stages that there are"),
      (0, "num_stages is 0; it must be an integer of at least 1"),
      (1.0, "num_stages is 1.0; it must be an integer"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        decode(quantizer, variables, codes, num_stages=stages)
    with self.assertRaisesRegex(ValueError, "3, the quantizer's embedding_dim"):
      quantizer.apply(variables, z[..., :2])
    with self.assertRaisesRegex(
      ValueError,
      'stage_dropout is 0.5, .* the rng stream "dropout" is missing; apply',
    ):
      quantizer.apply(variables, z, train=True, mutable=["codebook"])
    with self.assertRaisesRegex(
      ValueError, r"example_index has shape \(5,\); it must be \(6,\)"
    ):
      train(quantizer, variables, z, example_index=jnp.arange(5))
    with self.assertRaisesRegex(
      ValueError, "statistics is a list; it must be a tuple of 3 Statistics"
    ):
      quantizer.apply(variables, [], method="update_codebook")
