from absl.testing import parameterized

from experiments.study import paper


class PaperTest(parameterized.TestCase):
  def test_every_row_has_a_number_for_every_data_set(self):
    for table in paper.TABLES.values():
      for numbers in table.values():
        self.assertLen(numbers, len(paper.DATASETS))

  @parameterized.parameters(
    (1, "cifar10", "fixed_8192x8", 0.553),
    (2, "mnist", "adaptive", 0.166),
    (3, "mnist", "adaptive", 0.165),
    (4, "mnist", "adaptive", 0.166),  # table 2 is what others compare with
    (1, "photo_patches", "fixed_8192x8", None),
    (3, "mnist", "improved", None),
  )
  def test_numbers(self, table, dataset, variant, expected):
    self.assertEqual(paper.number(table, dataset, variant), expected)
