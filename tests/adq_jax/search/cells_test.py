import functools
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import chunks
from adq_jax import index_codebook
from adq_jax import nearest_codes
from adq_jax.search import cells
from adq_jax.search import scan
from tests.support.search import make_data
from tests.support.search import make_kind
from tests.support.search import NOTHING
from tests.support.search import nothing_found
from tests.support.search import quickly_compiled
from tests.support.search import WENT_ON


class CellsTest(parameterized.TestCase):
  @parameterized.parameters(2, 3, 8)
  def test_every_codeword_is_in_a_cell(self, dim):
    _, codebook = make_data(1, 5000, dim)
    built = cells.build(jnp.asarray(codebook))
    self.assertEqual(built.width, dim)
    np.testing.assert_array_equal(np.sort(built.order), np.arange(5000))
    np.testing.assert_array_equal(built.starts[jnp.array([0, -1])], [0, 5000])
    self.assertTrue((jnp.diff(built.starts) >= 0).all())
    for d, column in enumerate(built.columns):
      np.testing.assert_array_equal(column, codebook[built.order, d])

  def test_many_narrow_codewords_on_a_cpu_are_searched_in_cells(self):
    for num_codewords, num_points, is_searched_so in (
      (2**15, 256, True),
      (2**15, 255, False),
      (2**15 - 1, 256, False),
    ):
      z, codebook = np.zeros((num_points, 2)), np.zeros((num_codewords, 2))
      with mock.patch.object(
        cells, "search", return_value=jnp.zeros(num_points, jnp.int32)
      ) as search:
        jax.eval_shape(lambda *args: nearest_codes(*args), z, codebook)
      self.assertEqual(search.called, is_searched_so)

  @parameterized.parameters("cells", "index")
  def test_cells_are_traced_under_a_gradient(self, method):
    z, codebook = make_data(16, 10, 5)

    def loss(z, codebook):
      if method == "index":
        indices = nearest_codes(z, index_codebook(codebook))
      else:
        indices = nearest_codes(z, codebook, method=method)
      return jnp.take(codebook, indices, 0).sum()

    # Only tracing could fail, since loops of unknown length have no gradient.
    gradients = jax.eval_shape(jax.grad(loss, (0, 1)), z, codebook)
    chex.assert_shape(gradients, [(16, 5), (10, 5)])

  def test_points_that_cells_leave_open_continue_and_are_then_scanned(self):
    def go_on(where, carry, function, size):
      best, index, is_open = chunks.for_each_chunk(where, carry, function, size)
      return best, jnp.where(where, WENT_ON, index), is_open

    # Compiled here, so that it is traced while the fallbacks are replaced.
    search = quickly_compiled(functools.partial(nearest_codes, method="cells"))
    for kind, went_on, scanned in (
      ("normal", True, False),
      ("clusters", True, False),
      ("far points", False, True),
      ("equal codewords", False, True),
      ("some far points", True, True),
    ):
      z, codebook = make_kind(kind, 300, 2048, 2, seed=0)
      if kind == "some far points":
        z[::10] *= 30
      with (
        mock.patch.object(cells, "for_each_chunk", go_on),
        mock.patch.object(scan, "_search_few", nothing_found),
      ):
        indices = np.asarray(search(z, codebook))
      self.assertEqual((indices == WENT_ON).any(), went_on, kind)
      self.assertEqual((indices == NOTHING).any(), scanned, kind)
