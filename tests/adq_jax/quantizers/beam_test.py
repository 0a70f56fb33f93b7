import itertools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.quantizers import beam as beams


def search(points, codebooks, size):
  """The hypotheses after all stages."""
  points = jnp.asarray(points, jnp.float32)
  beam = beams.start(points)
  for codewords in codebooks:
    beam = beams.extend(
      beam,
      points,
      jnp.ones(len(points), bool),
      jnp.asarray(codewords, jnp.float32),
      size,
    )
  return beam


def make(num_stages, size=6, dim=2, seed=0):
  rng = np.random.default_rng(seed)
  codebooks = rng.normal(size=(num_stages, size, dim)) / 1.5 ** np.arange(
    num_stages
  ).reshape(-1, 1, 1)
  return rng.normal(size=(40, dim)), codebooks


class BeamTest(parameterized.TestCase):
  def test_a_case_where_the_nearest_codewords_are_not_the_best(self):
    codebook = [[0.6], [1.0], [-0.35]]
    for size, codes, total in ((1, [0, 2], 0.25), (2, [1, 2], 0.65)):
      beam = search([[0.65]], [codebook] * 2, size)
      chex.assert_trees_all_equal(beam.codes[0, 0], np.array(codes, np.int32))
      chex.assert_trees_all_close(beam.sums[0, 0], np.array([total]), rtol=1e-6)

  def test_a_beam_of_one_takes_the_nearest_codeword_of_each_stage(self):
    points, codebooks = make(3)
    left, expected = points.copy(), []
    for codewords in codebooks:
      squares = np.square(left[:, None] - codewords[None]).sum(axis=-1)
      expected.append(squares.argmin(axis=1))
      left -= codewords[expected[-1]]
    beam = search(points, codebooks, 1)
    chex.assert_shape(beam.codes, (40, 1, 3))
    chex.assert_trees_all_equal(
      beam.codes[:, 0], np.stack(expected, axis=1).astype(np.int32)
    )
    chex.assert_trees_all_close(beam.sums[:, 0], points - left, atol=1e-5)

  def test_a_beam_that_keeps_all_finds_the_nearest_sums_in_order(self):
    points, codebooks = make(2)
    paths = np.array(list(itertools.product(range(6), repeat=2)))
    sums = codebooks[0][paths[:, 0]] + codebooks[1][paths[:, 1]]
    squares = np.square(points[:, None] - sums[None]).sum(axis=-1)
    order = np.argsort(squares, axis=1)[:, :6]
    beam = search(points, codebooks, 6)
    chex.assert_trees_all_equal(beam.codes, paths[order].astype(np.int32))
    chex.assert_trees_all_close(beam.sums, sums[order], atol=1e-5)

  @parameterized.parameters(2, 3, 100)
  def test_hypotheses_are_different_and_the_best_is_no_worse(self, size):
    points, codebooks = make(3, seed=1)
    beam = search(points, codebooks, size)
    chex.assert_shape(beam.codes, (40, min(size, 216), 3))
    for codes in np.asarray(beam.codes):
      self.assertLen(np.unique(codes, axis=0), len(codes))
    errors = np.square(points[:, None] - beam.sums).sum(axis=-1)
    self.assertTrue((np.diff(errors, axis=1) > -1e-5).all())
    greedy = np.square(points - search(points, codebooks, 1).sums[:, 0]).sum()
    self.assertLess(errors[:, 0].sum(), greedy)

  def test_memory_does_not_grow_with_the_number_of_codewords(self):
    points = jax.ShapeDtypeStruct((1024, 4), jnp.float32)
    codewords = jax.ShapeDtypeStruct((2**16, 4), jnp.float32)
    program = jax.jit(lambda z, c: search(z, [c, c], 3)).lower(
      points, codewords
    )
    memory = program.compile().memory_analysis().temp_size_in_bytes
    self.assertLess(memory, 2**26)  # all distances would take 256 MiB
