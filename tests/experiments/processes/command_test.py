"""How a command ends, in processes of its own that do next to nothing."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
from unittest import mock

from absl import flags
from absl.testing import parameterized

from experiments.errors import UserError
from experiments.processes import command

_PROGRAM = """
import contextlib, errno, os, pathlib, signal, sys, time
from absl import flags
from experiments import errors
from experiments.processes import command, outputs, signals
scratch = pathlib.Path(sys.argv.pop(1))

def clean_up(argv):
  try:
    (scratch / "half").touch()
    print("ready", flush=True)
    time.sleep(30)
  finally:
    with signals.postponed():
      time.sleep(0.3)
      (scratch / "half").unlink()

def user_error(argv):
  raise errors.UserError("x is 1; it must be 2")

def say_and_fail(argv):
  print("as it went")
  user_error(argv)

def bug(argv):
  {}["no\\nsuch"]

def os_error(argv):
  open(scratch / "missing" / "file")

def talk(argv):
  for _ in range(3):
    print("word " * 2000, flush=True)
    print("word", file=sys.stderr, flush=True)
  outputs.write_error("word\\n")
  (scratch / "done").touch()

def strange(argv):
  print("\\udcff \\u00b1")

def unread(argv):
  with signals.stop_request(or_unread=True) as stop:
    while stop.name is None:
      print("a line", flush=True)
      time.sleep(0.01)
  raise errors.StoppedError(f"by {stop.name}; saved")

def listen(argv):
  with signals.stop_request("stopping soon") as stop:
    print("ready", flush=True)
    while stop.name is None:
      time.sleep(0.01)
  raise errors.StoppedError(f"by {stop.name}; saved")

def descriptors(argv):
  with open(scratch / "file", "w") as file:
    os.write(1, b"to standard output")
    file.write("mine")
    assert file.fileno() > 2

command.run(globals()[sys.argv.pop(1)])
"""
_NOHUP = ("bash", "-c", "trap '' HUP; exec \"$@\"", "bash")
_ROOT = pathlib.Path(__file__).parents[3]


class EndingTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def start(self, name, *arguments, prefix=(), **options):
    options = {
      "stdout": subprocess.PIPE,
      "stderr": subprocess.PIPE,
      **options,
    }
    # Writes at once: what stays in a buffer hides a broken pipe.
    environment = {**os.environ, "TMPDIR": str(self.root)}
    return subprocess.Popen(
      [*prefix, sys.executable, "-c", _PROGRAM, self.root, name, *arguments],
      cwd=_ROOT,
      env=environment,
      text=True,
      **options,
    )

  def end(self, process):
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error

  def shell(self, line):
    """Runs a command line in which RUN is the program; returns its code."""
    run = f"{sys.executable} -c '{_PROGRAM}' {self.root}"
    self.assertNotIn("'", _PROGRAM)
    return subprocess.run(
      ["bash", "-c", line.replace("RUN", run)],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      timeout=60,
    )

  def test_where_both_streams_go_to_one_file_the_reason_is_its_last_line(self):
    process = self.start("say_and_fail", stderr=subprocess.STDOUT)
    code, output, _ = self.end(process)
    self.assertEqual(code, 2)
    self.assertEqual(output, "as it went\nerror: x is 1; it must be 2\n")

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
  def test_a_signal_cleans_up_and_ends_with_one_line(self, number):
    process = self.start("clean_up")
    self.assertEqual(process.stdout.readline(), "ready\n")
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(number)  # an impatient user
    code, _, error = self.end(process)
    self.assertEqual(code, 75)
    self.assertRegex(error, f"^stopped: by {number.name}; .*go on.*\n$")
    self.assertEqual(list(self.root.iterdir()), [])

  def test_nohup_keeps_its_meaning(self):
    process = self.start("clean_up", prefix=_NOHUP)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    self.assertIsNone(process.poll())
    process.send_signal(signal.SIGTERM)
    code, _, error = self.end(process)
    self.assertEqual(code, 75)
    self.assertIn("by SIGTERM", error)

  @parameterized.parameters(
    ("user_error", 2, "^error: x is 1; it must be 2\n$"),
    ("os_error", 2, "^error: .*missing/file.*; put that right, .*\n$"),
  )
  def test_what_a_user_can_put_right_is_one_line(self, name, code, message):
    result = self.end(self.start(name))
    self.assertEqual(result[0], code)
    self.assertRegex(result[2], message)

  def test_a_bug_leaves_its_traceback_in_a_file(self):
    code, output, error = self.end(self.start("bug"))
    self.assertEqual((code, output), (70, ""))
    self.assertRegex(
      error, r"^error: this is a bug, KeyError: 'no\\nsuch'; .* is in /.*\n$"
    )
    (kept,) = self.root.glob("adq_jax_*.txt")
    self.assertIn(str(kept), error)
    self.assertIn("Traceback", kept.read_text())

  def test_a_wrong_flag(self):
    code, _, error = self.end(self.start("talk", "--no_such_flag"))
    self.assertEqual(code, 1)
    self.assertIn("Unknown command line flag", error)

  @parameterized.parameters(
    "RUN talk | true",
    "RUN talk 2>&1 | true",
    "RUN talk >&-",
    "RUN talk 2>&-",
    "RUN talk >&- 2>&- <&-",
    "RUN talk >/dev/full",
    "RUN talk >/dev/full 2>/dev/full",
    "PYTHONUNBUFFERED=1 RUN talk | head -c 3",
  )
  def test_what_becomes_of_its_output_does_not_matter(self, line):
    result = self.shell(line + "; exit ${PIPESTATUS[0]}")
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertTrue((self.root / "done").exists())
    self.assertNotIn("Error", result.stderr)
    self.assertNotIn("Exception", result.stderr)

  @parameterized.parameters(
    ("user_error", 2), ("bug", 70), ("unread", 75), ("os_error", 2)
  )
  def test_its_exit_code_does_not_depend_on_its_readers(self, name, code):
    result = self.shell(f"RUN {name} 2>&1 | true; exit ${{PIPESTATUS[0]}}")
    self.assertEqual(result.returncode, code)
    self.assertEqual(result.stderr, "")

  def test_a_closed_stream_is_not_another_files(self):
    result = self.shell("RUN descriptors >&-")
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual((self.root / "file").read_text(), "mine")

  def test_what_an_encoding_lacks_is_printed_all_the_same(self):
    result = self.shell("PYTHONIOENCODING=ascii RUN strange")
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(result.stdout, "\\udcff \\xb1\n")

  def test_ctrl_c_where_tee_dies_first(self):
    process = self.start("listen", stderr=subprocess.STDOUT)
    process.stdout.readline()
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    self.assertEqual(process.wait(60), 75)

  def test_a_closed_terminal(self):
    terminal, theirs = pty.openpty()
    process = self.start(
      "unread",
      prefix=_NOHUP,
      stdin=theirs,
      stdout=theirs,
      stderr=theirs,
      start_new_session=True,
    )
    os.close(theirs)
    os.read(terminal, 6)
    os.close(terminal)
    self.assertEqual(process.wait(60), 75)


class PathTest(parameterized.TestCase):
  def path_of(self, value):
    flag = mock.Mock(spec=flags.FlagHolder, value=value)
    flag.name = "workdir"
    return command.path_of(flag)

  def test_home_is_expanded(self):
    with mock.patch.dict(os.environ, HOME="/home/me"):
      self.assertEqual(self.path_of("~/x"), pathlib.Path("/home/me/x"))
      self.assertEqual(self.path_of("~"), pathlib.Path("/home/me"))
    self.assertEqual(self.path_of("a/~"), pathlib.Path("a/~"))
    self.assertIsNone(self.path_of(None))

  @parameterized.parameters(
    ("", "--workdir is empty"),
    ("~nobody-of-this-name/x", "--workdir is '~nobody.*name another path"),
  )
  def test_what_is_no_path(self, value, message):
    with self.assertRaisesRegex(UserError, message):
      self.path_of(value)
