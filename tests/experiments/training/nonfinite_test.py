import contextlib
import io
import pathlib

from absl.testing import parameterized
import jax.numpy as jnp

from experiments.errors import UserError
from experiments.training import nonfinite
from tests.support import tiny


def metrics(*is_nonfinite, step=1, **values):
  """Those of a call, of one device."""
  terms = dict.fromkeys(("mse", "quantizer_loss", "gradient_norm", "loss"), 1.0)
  terms["nonfinite_points"] = 0.0
  values = {"step": step, "is_nonfinite": is_nonfinite, **terms, **values}
  return {name: jnp.array(value)[None] for name, value in values.items()}


def guard(**fields):
  config = tiny.config("fixed_16x4", **fields)
  return nonfinite.Guard(config, pathlib.Path("runs/some"))


class GuardTest(parameterized.TestCase):
  def test_names_the_step_and_the_terms(self):
    bad = metrics(False, True, step=7, gradient_norm=float("inf"))
    with self.assertRaisesRegex(
      UserError,
      r"^gradient_norm not finite at step 7 \(mse 1, quantizer_loss 1,"
      r" gradient_norm inf, loss 1\); checkpoints in runs/some",
    ):
      guard().check(bad)

  def test_nothing_to_look_at_and_nothing_wrong(self):
    guard().check(None)
    guard().check(metrics(False, False))

  @parameterized.parameters(
    # Three in succession, within a call and over two.
    ([(True, True, True)], True),
    ([(False, True, True), (True, False, False)], True),
    # Many, but no three.
    ([(True, True, False), (True, True, False)], False),
    ([(True, False, True), (True, False, True)] * 3, False),
    ([(True,), (True,), (False,), (True,), (True,)], False),
    ([(True,), (True,), (True,)], True),
  )
  def test_the_limit_is_of_updates_in_succession(self, calls, stops):
    limited = guard(on_nonfinite="skip", max_skipped=2)
    with contextlib.ExitStack() as stack:
      stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
      if stops:
        stack.enter_context(
          self.assertRaisesRegex(UserError, "3 updates in succession")
        )
      for is_nonfinite in calls:
        limited.check(metrics(*is_nonfinite, loss=float("nan")))

  def test_points_are_told_of_when_they_begin_to_be_such(self):
    some, output = guard(), io.StringIO()
    with contextlib.redirect_stdout(output):
      for step, count in enumerate((0, 3, 2, 0, 1), start=1):
        some.check(metrics(False, step=step, nonfinite_points=float(count)))
    told = output.getvalue().splitlines()
    self.assertLen(told, 2)
    self.assertStartsWith(told[0], "3 points not finite up to step 2: ")
    self.assertStartsWith(told[1], "1 points not finite up to step 5: ")
