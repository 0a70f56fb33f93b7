from unittest import mock

from absl.testing import parameterized
import jax

from experiments import compilation


class CompilationTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    was_on = jax.config.jax_enable_compilation_cache
    self.addCleanup(jax.config.update, "jax_enable_compilation_cache", was_on)
    jax.config.update("jax_enable_compilation_cache", True)

  @parameterized.parameters(
    ("cpu", 8, False), ("cpu", 1, True), ("gpu", 8, True), ("tpu", 1, True)
  )
  def test_several_devices_of_a_cpu_have_no_cache(self, backend, count, is_on):
    with (
      mock.patch.object(jax, "default_backend", return_value=backend),
      mock.patch.object(jax, "device_count", return_value=count),
    ):
      compilation.keep_none_that_may_go_wrong()
    self.assertEqual(jax.config.jax_enable_compilation_cache, is_on)
