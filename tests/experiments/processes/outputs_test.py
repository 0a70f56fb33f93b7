import contextlib
import io
import os
import sys

from absl.testing import parameterized

from experiments.processes import outputs


class OutputsTest(parameterized.TestCase):
  def test_what_nobody_reads_is_dropped(self):
    reader, writer = os.pipe()
    stream = outputs.tolerant(writer)
    with contextlib.redirect_stdout(stream):
      print("heard", flush=True)
      self.assertEqual(os.read(reader, 99), b"heard\n")
      self.assertFalse(outputs.is_unread())
      os.close(reader)
      print("unheard", flush=True)
      self.assertTrue(outputs.is_unread())
    os.close(writer)

  def test_a_full_disk_is_no_reader_that_has_gone(self):
    with open("/dev/full", "w") as full:
      stream = outputs.tolerant(full.fileno())
      with contextlib.redirect_stdout(stream):
        print("lost", flush=True)
        self.assertFalse(outputs.is_unread())

  def test_an_encoding_is_taken_over_and_what_it_lacks_is_escaped(self):
    reader, writer = os.pipe()
    like = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("±", file=outputs.tolerant(writer, like), flush=True)
    self.assertEqual(os.read(reader, 99), b"\\xb1\n")
    os.close(reader)
    os.close(writer)

  def test_streams_of_others_stay(self):
    mine = io.StringIO()
    with contextlib.redirect_stdout(mine), contextlib.redirect_stderr(mine):
      outputs.make_safe()
      self.assertIs(sys.stdout, mine)
      self.assertFalse(outputs.is_unread())
