from absl.testing import parameterized

from experiments.configs import fields
from experiments.configs import variant_table
from experiments.configs import variants
from experiments.configs.datasets import default_config


class VariantTableTest(parameterized.TestCase):
  def test_changes_are_of_fields_that_there_are(self):
    for name, variant in variant_table.VARIANTS.items():
      config = default_config(variant.dataset or "mnist", name)
      known = fields.flatten(config.to_dict())
      for field in variant.changes:
        # A slot is named by its kind.
        self.assertTrue(known.keys() & {field, f"{field}.kind"}, field)

  def test_there_is_no_group_but_those_that_are_listed(self):
    found = [*variant_table.VARIANTS.values()] + [
      variants.find("mnist", family.example)
      for family in variant_table.FAMILIES.values()
    ]
    self.assertEqual(
      {variant.group for variant in found}, set(variant_table.GROUPS)
    )

  def test_titles_tell_variants_apart(self):
    titles = [variant.title for variant in variant_table.VARIANTS.values()]
    self.assertLen(set(titles), len(titles))
