import functools
from unittest import mock

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import nearest_codes
from adq_jax.search import scan
from tests.support.search import find
from tests.support.search import make_data
from tests.support.search import make_kind
from tests.support.search import NOTHING
from tests.support.search import nothing_found


class ScanTest(parameterized.TestCase):
  def test_only_doubtful_points_are_searched_again(self):
    z, codebook = make_data(90, 40, 3)
    is_doubtful = jnp.arange(90) % 3 == 0
    found = scan.search_doubtful(
      jnp.asarray(z),
      jnp.asarray(codebook),
      jnp.full(90, NOTHING, jnp.int32),
      is_doubtful,
    )
    expected = np.where(is_doubtful, find(z, codebook, "dense"), NOTHING)
    np.testing.assert_array_equal(found, expected)

  @parameterized.parameters(
    # The share of points in doubt, at least and at most.
    ("normal", 0, 0.01),
    ("integers", 0.01, 1),
    ("duplicates", 0.5, 1),
    ("crowded far away", 0.5, 1),
    ("equal codewords", 1, 1),
  )
  def test_points_that_products_leave_in_doubt_are_scanned(
    self, kind, least, most
  ):
    # It is jitted here, so that it is traced while the scan is replaced.
    search = jax.jit(functools.partial(nearest_codes, method="screened"))
    for dim in (4, 40):
      z, codebook = make_kind(kind, 300, 261, dim, seed=0)
      if kind == "crowded far away":  # from the centre of the products
        z, codebook = 1e-4 * z + 10, 1e-4 * codebook + 10
        codebook[::2] -= 20
      with mock.patch.object(scan, "_search_few", nothing_found):
        part = np.mean(np.asarray(search(z, codebook)) == NOTHING)
      self.assertGreaterEqual(part, least)
      self.assertLessEqual(part, most)
