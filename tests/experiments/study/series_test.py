from absl.testing import parameterized

from experiments.configs import variant_table
from experiments.study import series as series_lib


class SeriesTest(parameterized.TestCase):
  def test_a_group_is_in_one_series(self):
    groups = [group for one in series_lib.SERIES for group in one.groups]
    self.assertLen(set(groups), len(groups))
    self.assertContainsSubset(groups, variant_table.GROUPS)
    references = {one.reference for one in series_lib.SERIES} - {""}
    self.assertContainsSubset(references, groups)

  @parameterized.parameters(
    ("improved_fixed", "fixed, improved"),
    ("table_3", "adaptive, variants of table 3"),
    ("reference", "adaptive, other variants"),
  )
  def test_the_group_of_a_variant_says_its_series(self, group, label):
    variant = variant_table.Variant("Title", group)
    self.assertEqual(series_lib.of(variant).label, label)
