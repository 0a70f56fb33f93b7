import pathlib
import subprocess
import sys

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[3]
_PROGRAM = """
import os
from experiments.processes import sudden_end
sudden_end.announce()
{}
"""


class SuddenEndTest(parameterized.TestCase):
  @parameterized.parameters(
    ("os.kill(os.getpid(), 9)", True),
    ("os._exit(1)", True),
    ("sudden_end.withdraw(); os._exit(1)", False),
    ("raise SystemExit(2)", False),
  )
  def test_a_line_says_it_unless_the_process_can(self, end, is_announced):
    with subprocess.Popen(
      [sys.executable, "-c", _PROGRAM.format(end)],
      cwd=_ROOT,
      stderr=subprocess.PIPE,
      text=True,
    ) as process:
      error = process.stderr.read()  # until the watcher has closed it too
    if is_announced:
      self.assertRegex(error, "^error: this process, .* sudden end.*\n$")
    else:
      self.assertEqual(error, "")
