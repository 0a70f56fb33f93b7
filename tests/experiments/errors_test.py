from absl.testing import parameterized

from experiments import errors


class ErrorsTest(parameterized.TestCase):
  def test_line_breaks_go(self):
    error = ValueError("one\n  two\tthree ")
    self.assertEqual(errors.one_line(error), "one two three")

  def test_an_error_without_a_message_has_its_name(self):
    self.assertEqual(errors.one_line(KeyError()), "KeyError")

  def test_exit_codes_tell_errors_apart(self):
    kinds = (errors.UserError, errors.InUseError, errors.StoppedError)
    self.assertEqual([kind.exit_code for kind in kinds], [2, 3, 75])
    for kind in kinds:
      self.assertIsInstance(kind("x"), errors.UserError)
