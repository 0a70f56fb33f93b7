from absl.testing import parameterized

from experiments.configs import variants
from experiments.study import contents
from experiments.study import paper


class ContentsTest(parameterized.TestCase):
  @parameterized.parameters(*contents.TABLES)
  def test_rows_are_variants_with_titles_of_their_own(self, table):
    titles = [
      title or variants.find("mnist", variant).title
      for variant, title in contents.TABLES[table].rows.items()
    ]
    self.assertNotEmpty(titles)
    self.assertLen(set(titles), len(titles))

  @parameterized.parameters(*paper.TABLES)
  def test_the_papers_tables_have_the_papers_rows(self, table):
    self.assertContainsSubset(paper.TABLES[table], contents.TABLES[table].rows)
