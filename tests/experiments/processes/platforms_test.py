import contextlib
import io
import logging
from unittest import mock

from absl.testing import parameterized
import jax

from experiments.errors import UserError
from experiments.processes import platforms


class PlatformTest(parameterized.TestCase):
  @parameterized.parameters(
    RuntimeError("Unable to initialize backend 'cuda':\n no plugin"),
    AssertionError(),
  )
  def test_a_platform_that_there_is_not(self, failure):
    with mock.patch.object(jax, "devices", side_effect=failure):
      with self.assertRaisesRegex(
        UserError,
        "^JAX_PLATFORMS is 'cpu', but JAX has no .*; unset it",
      ):
        platforms.check_platform()

  @parameterized.parameters(True, False)
  def test_a_plugin_that_fails_is_told_of_in_a_line(self, is_asked_for):
    logger = logging.getLogger("jax._src.xla_bridge")

    def find_devices():
      try:
        raise RuntimeError("Unable to load\ncuDNN")
      except RuntimeError:
        logger.exception("Jax plugin configuration error")
      if is_asked_for:
        raise AssertionError

    errors = io.StringIO()
    with (
      mock.patch.object(jax, "devices", find_devices),
      self.assertNoLogs(logger),
      contextlib.redirect_stderr(errors),
    ):
      if is_asked_for:
        with self.assertRaisesRegex(
          UserError, r"\(Unable to load cuDNN\); unset"
        ):
          platforms.check_platform()
      else:
        platforms.check_platform()
    if not is_asked_for:
      self.assertEqual(
        errors.getvalue(),
        "warning: JAX goes without a device: Unable to load cuDNN\n",
      )
