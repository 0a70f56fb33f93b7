from absl.testing import parameterized

from experiments import notation


class NotationTest(parameterized.TestCase):
  @parameterized.parameters((512, 128), ([512, 128],))
  def test_a_structure(self, *structure):
    if len(structure) == 1:
      (structure,) = structure
    self.assertEqual(notation.structure_name(structure), "[512,128]")
