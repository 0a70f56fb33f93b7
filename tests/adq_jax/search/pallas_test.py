from unittest import mock

from absl.testing import parameterized
import chex
import jax
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
import numpy as np

from adq_jax import nearest_codes
from adq_jax import VectorQuantizer
from adq_jax.search import nearest
from adq_jax.search import pallas
from tests.support.exactness import excess
from tests.support.small import train

PLATFORMS = ("tpu", "gpu")


def search(platform, z, codebook):
  """Runs the kernel on a CPU, which simulates a TPU's memories and copies."""
  if platform == "gpu":
    interpret = True
  else:
    interpret = pltpu.InterpretParams(detect_races=True)
  indices = pallas.search(
    jnp.asarray(z),
    jnp.asarray(codebook),
    platform=platform,
    interpret=interpret,
  )
  indices = np.asarray(indices)
  if platform == "tpu":  # JAX has no public name for the races
    assert not interpret_pallas_call.races.races_found
  return indices


def make_integers(num_points, num_codewords, dim):
  """Returns small integers, whose distances are exact and ties are many."""
  rng = np.random.default_rng(num_points + num_codewords + dim)
  z = rng.integers(-2, 3, (num_points, dim)).astype(np.float32)
  return z, rng.integers(-2, 3, (num_codewords, dim)).astype(np.float32)


class NearestPallasTest(parameterized.TestCase):
  def assert_agrees(self, platform, z, codebook):
    expected = nearest_codes(z, codebook, method="dense")
    indices = search(platform, z, codebook)
    chex.assert_type(indices, jnp.int32)
    chex.assert_trees_all_equal(indices, np.asarray(expected))

  @parameterized.product(platform=PLATFORMS, dim=(1, 2, 3, 4, 8, 16, 35, 128))
  def test_lowest_index_wins_ties(self, platform, dim):
    self.assert_agrees(platform, *make_integers(130, 100 + 1000 // dim, dim))

  @parameterized.product(
    platform=PLATFORMS, num_points=(1, 129), num_codewords=(1, 7, 525)
  )
  def test_any_number_of_points_and_codewords(
    self, platform, num_points, num_codewords
  ):
    self.assert_agrees(platform, *make_integers(num_points, num_codewords, 2))

  def test_several_tiles(self):
    # A GPU's tiles are so small that there are always several.
    with (
      mock.patch.object(pallas, "_TPU_POINTS", 128),
      mock.patch.object(pallas, "_TPU_WORDS", 1),
    ):
      self.assert_agrees("tpu", *make_integers(140, 1100, 2))

  @parameterized.product(platform=PLATFORMS, dim=(1, 16, 128))
  def test_is_exact_where_codewords_crowd_far_from_the_origin(
    self, platform, dim
  ):
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(1, dim)) * 10
    z = centre + 1e-4 * rng.normal(size=(60, dim))
    codebook = centre + 1e-4 * rng.normal(size=(200, dim))
    z, codebook = z.astype(np.float32), codebook.astype(np.float32)
    indices = search(platform, z, codebook)
    self.assertLessEqual(excess(z, codebook, indices).max(), 8)

  @parameterized.parameters(*PLATFORMS)
  def test_infinite_codewords_are_infinitely_far(self, platform):
    z, codebook = make_integers(50, 70, 3)
    codebook[::2] = np.inf
    codebook[1::4, 1] = -np.inf
    self.assert_agrees(platform, z, codebook)
    codebook[:, 2] = np.inf
    indices = search(platform, z, codebook)
    chex.assert_trees_all_equal(indices, np.zeros(50, np.int32))

  @parameterized.parameters(*PLATFORMS)
  def test_equal_codewords_give_index_zero(self, platform):
    z, _ = make_integers(50, 1, 4)
    indices = search(platform, z, np.full((200, 4), 0.5, np.float32))
    chex.assert_trees_all_equal(indices, np.zeros(50, np.int32))

  @parameterized.parameters(*PLATFORMS)
  def test_transformations(self, platform):
    z, codebook = make_integers(16, 30, 2)

    def interpreted(z, codebook):
      return pallas.search(z, codebook, platform=platform, interpret=True)

    expected = np.asarray(nearest_codes(z, codebook, method="dense"))
    chex.assert_trees_all_equal(
      np.asarray(jax.jit(interpreted)(z, codebook)), expected
    )
    shards = jax.pmap(interpreted, in_axes=(0, None))(
      z.reshape(8, 2, 2), codebook
    )
    chex.assert_trees_all_equal(np.asarray(shards).reshape(-1), expected)
    points = jax.vmap(interpreted, (0, None))(z.reshape(4, 4, 2), codebook)
    chex.assert_trees_all_equal(np.asarray(points).reshape(-1), expected)
    stack = np.stack([codebook, codebook + 1])
    both = jax.vmap(interpreted, (None, 0))(z, stack)
    shifted = nearest_codes(z, stack[1], method="dense")
    chex.assert_trees_all_equal(both, jnp.stack([expected, shifted]))

  @parameterized.parameters(False, True)
  def test_a_step_under_shard_map(self, is_shared_out):
    one = VectorQuantizer(16, 3)
    many = one.clone(axis_name="i", shard_codebook=is_shared_out)
    z = jax.random.normal(jax.random.key(0), (24, 3))
    variables = one.init(jax.random.key(1), z[:1])
    weights = jax.random.normal(jax.random.key(2), z.shape)

    (_, gradient), result, after = jax.jit(
      lambda v, z, weights: train(one, v, z, weights=weights)
    )(variables, z, weights)
    mesh = jax.make_mesh((8,), ("i",))
    rows = jax.P("i")
    state = jax.tree.map(
      lambda x: rows if is_shared_out and x.ndim else jax.P(), variables
    )

    def step(v, z, weights):
      (_, gradient), result, after = train(many, v, z, weights=weights)
      return gradient / 8, result.codes, result.values, after

    with mock.patch.dict(nearest._METHODS, auto=nearest._METHODS["pallas"]):
      found = jax.jit(
        jax.shard_map(
          step,
          mesh=mesh,
          in_specs=(state, rows, rows),
          out_specs=(rows, rows, rows, state),
        )
      )(
        *jax.tree.map(
          lambda x, spec: jax.device_put(x, jax.NamedSharding(mesh, spec)),
          (variables, z, weights),
          (state, rows, rows),
        )
      )
    chex.assert_trees_all_equal(found[1:3], (result.codes, result.values))
    chex.assert_trees_all_close(
      (found[0], found[3]), (gradient, after), rtol=1e-5, atol=1e-6
    )

  def test_bad_arguments_are_named(self):
    z, codebook = make_integers(4, 10, 2)
    with self.assertRaisesRegex(ValueError, "platform is 'cpu'.*'tpu'"):
      pallas.search(z, codebook, platform="cpu")
    wide = np.zeros((4, pallas.MAX_WIDTH + 1), np.float32)
    with self.assertRaisesRegex(ValueError, r"\(4, 513\).* 512"):
      pallas.search(wide, wide, platform="tpu")
