import dataclasses

from absl.testing import parameterized

from adq_jax import options


@dataclasses.dataclass(frozen=True)
class Accent(options.Option):
  """An option that is never more than red."""

  red: float = 0.0

  def check(self) -> None:
    if self.red > 1:
      raise ValueError(f"red is {self.red}; it must be at most 1")


class CheckTest(parameterized.TestCase):
  def test_what_fits(self):
    options.check_option("accent", Accent(0.5), Accent, "Accent()")
    options.check_option("accent", Accent(0.5), options.Option, "Accent()")

  @parameterized.parameters(
    (Accent(2.0), "accent.red is 2.0; it must be at most 1"),
    (
      options.Option(),
      ".*; it must be an Accent, such as Accent\\(0.5\\)",
    ),
    (Accent, "accent is .*; it must be an Accent"),
    ("red", "accent is 'red'; it must be an Accent"),
    (None, "accent is None; it must be an Accent"),
  )
  def test_what_does_not(self, value, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      options.check_option("accent", value, Accent, "Accent(0.5)")
    self.assertNotIn("\n", str(caught.exception))
