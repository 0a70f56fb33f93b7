from absl.testing import parameterized

from experiments.tokens import chunk as chunks


class ChunkTest(parameterized.TestCase):
  def test_numbers_are_big_endian(self):
    found = chunks.read_numbers({8: b"\0\0\1\0\0\0\0\7"}.get, 2)
    self.assertEqual(found, [256, 7])

  def test_names(self):
    self.assertEqual(chunks.check_names(["a", "b/c"], 4, 6, 8), ("a", "b/c"))

  @parameterized.parameters(
    ("x", 4, 6, "no list of images"),
    ([], 4, 6, "no list of images"),
    (["x", 7], 4, 6, "no name of a file"),
    (["x"] * 4097, 1, 1, "no list of images"),
    (["../x"], 4, 6, "no path inside a folder"),
    (["x"], 0, 6, "^0 pixels"),
    (["x"] * 4096, 8, 9, "^18874368 pixels"),
  )
  def test_what_is_refused(self, names, height, width, message):
    with self.assertRaisesRegex(ValueError, message):
      chunks.check_names(names, height, width, 8)
