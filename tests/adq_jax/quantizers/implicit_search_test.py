import functools
import itertools
import math
import re

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import QINCo2Network
from adq_jax.quantizers import implicit_search
from adq_jax.quantizers.implicit_search import ImplicitStages

STAGES, SIZE, DIM = 3, 4, 2
NETWORK = QINCo2Network(1, width=3, hidden=4)


def make_stages(candidates=None):
  rng = np.random.default_rng(0)

  def noise(*shape):
    return jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32)

  parameters = {
    name: noise(STAGES - 1, *shape)
    for name, (shape, _) in NETWORK.parameters(DIM).items()
  }
  codewords = noise(STAGES, SIZE, DIM)
  return ImplicitStages(codewords, parameters, candidates, NETWORK)


def points(count):
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.normal(size=(count, DIM)), jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def added(stages, s, k, sums):
  """What code k of stage s adds to one point's sums, by itself."""
  codewords = stages.codewords[s][k][None]
  if s == 0:
    return codewords[0]
  own = jax.tree.map(lambda x: x[s - 1], stages.parameters)
  entered = NETWORK.enter(own, codewords)
  return NETWORK.finish(own, codewords, entered, sums[None])[0]


def follow(stages, codes):
  """What is decoded after each stage, by a loop over one point's codes."""
  sums, found = jnp.zeros(DIM), []
  for s, k in enumerate(codes):
    sums = sums + added(stages, s, k, sums)
    found.append(sums)
  return np.stack(found)


def beam(stages, point, beam_size, num_candidates):
  """A search for one point, by a loop over everything."""
  kept = [((), jnp.zeros(DIM))]
  for s in range(STAGES):
    tried = []
    for codes, sums in kept:
      which = range(SIZE)
      if s and stages.candidates is not None:
        left = point - sums - stages.candidates[s - 1]
        which = np.argsort(np.square(left).sum(axis=1))[:num_candidates]
      for k in which:
        total = sums + added(stages, s, k, sums)
        tried.append((float(jnp.square(point - total).sum()), codes + (k,)))
    tried.sort()
    kept = [
      (codes, follow(stages, codes)[-1]) for _, codes in tried[:beam_size]
    ]
  return kept[0][0]


class ImplicitSearchTest(parameterized.TestCase):
  def test_codes_decode_in_order_and_prefixes_alone(self):
    stages = make_stages()
    codes = list(itertools.product(range(SIZE), repeat=STAGES))[::7]
    found = implicit_search.decode(stages, jnp.array(codes))
    expected = np.stack([follow(stages, code) for code in codes], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    first = implicit_search.decode(stages.first(2), jnp.array(codes)[:, :2])
    np.testing.assert_array_equal(first, found[:2])

  def test_a_code_out_of_range_makes_nan_from_there_on(self):
    found = implicit_search.decode(make_stages(), jnp.array([[0, -1, 1]]))
    np.testing.assert_array_equal(
      np.isnan(found).all(axis=(1, 2)), [False, True, True]
    )

  @parameterized.parameters((1, 0), (3, 2))
  def test_it_finds_what_a_loop_over_everything_finds(self, size, candidates):
    own = None
    if candidates:
      rng = np.random.default_rng(2)
      own = jnp.asarray(rng.normal(size=(STAGES - 1, SIZE, DIM)), jnp.float32)
    stages, z = make_stages(own), points(5)
    found = implicit_search.search(
      stages, z, beam_size=size, num_candidates=candidates
    )
    expected = [beam(stages, point, size, candidates) for point in z]
    np.testing.assert_array_equal(found, expected)

  def test_memory_is_bounded(self):
    # All candidates of all points would be 2^29 numbers of a layer.
    z = jax.ShapeDtypeStruct((2**22, DIM), jnp.float32)
    stages = make_stages()
    jaxpr = jax.make_jaxpr(
      lambda z: implicit_search.search(stages, z, beam_size=4, num_candidates=0)
    )(z)
    shapes = re.findall(r"f32\[([\d,]+)\]", str(jaxpr))
    sizes = [math.prod(map(int, shape.split(","))) for shape in shapes]
    self.assertBetween(max(sizes), 2**23, 2**24)
