import contextlib
import io
import os
from unittest import mock

from absl.testing import parameterized
import jax

from experiments.processes import main_output
from experiments.processes import sudden_end

_LOST = jax.errors.JaxRuntimeError("UNAVAILABLE:\n heartbeat")


class OnlyMainPrintsTest(parameterized.TestCase):
  @parameterized.parameters((0, "said\n"), (1, ""))
  def test_the_main_process_alone(self, index, expected):
    output = io.StringIO()
    with (
      mock.patch.object(jax, "process_index", lambda: index),
      contextlib.redirect_stdout(output),
      main_output.only_main_prints(),
    ):
      print("said")
    self.assertEqual(output.getvalue(), expected)

  def test_a_process_that_loses_others_says_so_and_ends_at_once(self):
    errors = io.StringIO()
    with (
      mock.patch.object(jax, "process_count", lambda: 2),
      mock.patch.object(os, "_exit", side_effect=SystemExit) as end,
      mock.patch.object(sudden_end, "withdraw") as withdraw,
      contextlib.redirect_stderr(errors),
      self.assertRaises(SystemExit),
      main_output.only_main_prints(),
    ):
      raise _LOST
    self.assertRegex(
      errors.getvalue(),
      r"^error: process 0 cannot go on with the others \(UNAVAILABLE: heartbeat"
      r"\); .* start all of them again, .*\n$",
    )
    withdraw.assert_called_once_with()
    end.assert_called_once_with(2)

  def test_the_error_of_a_single_process_is_its_own(self):
    with self.assertRaises(jax.errors.JaxRuntimeError):
      with main_output.only_main_prints():
        raise _LOST
