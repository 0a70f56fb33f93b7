import io

from absl.testing import parameterized

from experiments.processes import limits


class LimitedFileTest(parameterized.TestCase):
  @parameterized.parameters(-1, 4, 100)
  def test_all_of_a_file_up_to_the_limit(self, size):
    file = limits.LimitedFile(io.BytesIO(b"abcd"), 4)
    self.assertEqual(file.read(size), b"abcd")
    self.assertEqual(file.read(), b"")
    self.assertTrue(file.readable())  # as the file that is wrapped

  @parameterized.parameters(-1, 5, 100)
  def test_a_longer_file_is_refused(self, size):
    file = limits.LimitedFile(io.BytesIO(b"abcde"), 4)
    with self.assertRaisesRegex(ValueError, "more than 4 bytes"):
      file.read(size)

  def test_reading_in_parts_adds_up(self):
    file = limits.LimitedFile(io.BytesIO(b"abcde"), 4)
    self.assertEqual(file.read(3), b"abc")
    with self.assertRaisesRegex(ValueError, "more than 4 bytes"):
      file.read(3)

  def test_no_more_is_read_than_shows_that_there_is_more(self):
    inner = io.BytesIO(bytes(1000))
    with self.assertRaises(ValueError):
      limits.LimitedFile(inner, 4).read()
    self.assertEqual(inner.tell(), 5)

  def test_places_beyond_the_limit(self):
    file = limits.LimitedFile(io.BytesIO(bytes(9)), 4)
    self.assertEqual(file.seek(4), 4)
    with self.assertRaisesRegex(ValueError, "more than 4 bytes"):
      file.seek(5)
