"""The command for an accelerator finds what is wrong with a device."""

import contextlib
import io
import json
import os
import pathlib
import time
from unittest import mock

from absl import app
from absl.testing import flagsaver
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.accelerator import __main__ as command
from benchmarks.accelerator import quantizers
from benchmarks.accelerator import rows as rows_lib
from benchmarks.accelerator import search
from benchmarks.accelerator import steps
from benchmarks.accelerator.float64 import in_float64
from experiments.model.state import TrainState

_SHAPE = (65, 200, 2)


def _device():
  # Not the default one, on which a mistake would go unnoticed.
  return jax.devices()[1]


def _nothing():
  pass


def _by(function):
  """Stands in for a method of search."""
  return mock.patch.object(search, "search_by", lambda method: function)


def _squares(z, codebook):
  return jnp.square(z[:, None] - codebook).sum(axis=-1)


class RowsTest(parameterized.TestCase):
  def run_all(self, rows, seconds=60.0, keep=_nothing, end=_nothing):
    output = io.StringIO()
    with (
      contextlib.redirect_stdout(output),
      contextlib.redirect_stderr(io.StringIO()),
    ):
      rows_lib.run_all(rows, seconds, keep, end)
    return output.getvalue()

  def test_a_row_that_fails_says_so_and_the_others_go_on(self):
    def fail():
      raise ValueError("a | b\nc")

    rows = [
      rows_lib.Row("one", fail),
      rows_lib.Row("two", lambda: "2 ms", rows_lib.MEASURED),
    ]
    seen = []
    output = self.run_all(
      rows,
      keep=lambda: seen.append([row.result for row in rows]),
      end=lambda: seen.append("end"),
    )
    self.assertEqual(
      seen, [["FAILED", "not run"], ["FAILED", "measured"], "end"]
    )
    first, second = (row.as_cells() for row in rows)
    self.assertEqual(first["figures"], "ValueError: a / b c")
    self.assertEqual(second["figures"], "2 ms")
    self.assertIn("[1/2] one ... FAILED", output)
    self.assertIn("[2/2] two ... measured", output)
    self.assertEqual(rows_lib.summary(rows), "1 measured, 1 FAILED")

  def test_no_row_starts_when_time_is_nearly_over(self):
    rows = [
      rows_lib.Row("slow", lambda: time.sleep(0.8) or ""),
      rows_lib.Row("late", lambda: ""),
    ]
    output = self.run_all(rows, seconds=1.0)
    self.assertEqual([row.result for row in rows], ["held", "not run"])
    self.assertEqual(rows[1].as_cells()["s"], "")
    self.assertIn("1 rows are not run", output)

  def test_a_row_that_does_not_end_is_ended(self):
    ended = []
    rows = [rows_lib.Row("endless", lambda: time.sleep(0.5) or "")]
    with mock.patch.object(os, "_exit") as leave:
      self.run_all(rows, seconds=0.2, end=lambda: ended.append(rows[0].figures))
    leave.assert_called_once_with(1)
    self.assertRegex(ended[0], "had not ended 0 s after")


class SearchTest(parameterized.TestCase):
  def test_an_exact_search_holds(self):
    figures = search.check_search(_device(), "dense", _SHAPE)
    self.assertRegex(figures, r"\d\.\d\d of 8 epsilons")

  @parameterized.named_parameters(
    ("far", lambda z, c: jnp.argmax(_squares(z, c), axis=1), "epsilons too"),
    (
      "last",  # of equal ones, the highest index
      lambda z, c: len(c) - 1 - jnp.argmin(_squares(z, c[::-1]), axis=1),
      "the lowest index of equal",
    ),
    (
      "expanded",
      lambda z, c: jnp.argmin(jnp.square(c).sum(1) - 2 * z @ c.T, axis=1),
      "normal, offset .*: a codeword is",
    ),
  )
  def test_a_search_that_is_not_exact_fails(self, function, message):
    with (
      _by(jax.jit(function)),
      self.assertRaisesRegex(AssertionError, message),
    ):
      search.check_search(_device(), "any", _SHAPE)

  def test_a_code_for_nan_fails(self):
    def find(z, codebook):
      nearest = jnp.argmin(jnp.nan_to_num(_squares(z, codebook)), axis=1)
      return jnp.where(jnp.isnan(z).any(axis=1), 1, nearest)

    with (
      _by(jax.jit(find)),
      mock.patch.object(search, "KINDS", ("not finite",)),
      self.assertRaisesRegex(AssertionError, "of NaN have a code"),
    ):
      search.check_search(_device(), "any", _SHAPE)

  def test_penalties_hold_and_are_not_forgotten(self):
    figures = search.check_penalties(_device(), "dense", _SHAPE)
    self.assertRegex(figures, r"[1-9]\d* of 65 points have ties")

    def without(z, codebook, **unused):
      del unused
      return jnp.argmin(_squares(z, codebook), axis=1)

    with (
      mock.patch.object(search, "nearest_codes", without),
      self.assertRaisesRegex(AssertionError, "sums are not the smallest"),
    ):
      search.check_penalties(_device(), "dense", _SHAPE)

  def test_a_kernel_that_is_farther_than_the_scan_fails(self):
    exact = jax.jit(lambda z, c: jnp.argmin(_squares(z, c), axis=1))
    coarse = jax.jit(
      lambda z, c: jnp.argmin(
        jax.lax.reduce_precision(_squares(z, c), 8, 2), axis=1
      )
    )
    of = {"pallas": coarse, "blocked": exact}
    with (
      mock.patch.object(search, "search_by", of.get),
      self.assertRaisesRegex(AssertionError, "the kernel is farther for"),
    ):
      search.check_kernel(_device(), 64, (64, 2))
    with mock.patch.object(search, "search_by", lambda method: exact):
      figures = search.check_kernel(_device(), 64, (64, 2))
    self.assertEqual(figures, "0 of 128 codes differ, and are as near")


def _program(x, index):
  """What a quantizer does: products, branches, loops, sums by code, noise."""
  _, sums = jax.lax.scan(lambda c, row: (c + row.sum(), c), 0.0, x)
  count, _ = jax.lax.while_loop(
    lambda pair: pair[1] > 1, lambda pair: (pair[0] + 1, pair[1] / 2), (0, 9.0)
  )
  branch = jax.lax.cond(index[0] > 0, jnp.exp, jnp.log1p, x[0])
  by_code = jnp.zeros(3).at[index].add(x[:, 0])
  placed = jnp.zeros(3).at[0].set(x[0, 0])
  noise = jax.random.uniform(jax.random.key(0), (4,))
  fold = jax.checkpoint(lambda c, row: (jnp.sin(c + row.sum()), None))
  return {
    "again": jax.grad(lambda x: jax.lax.scan(fold, 0.0, x)[0])(x),
    "product": jnp.tanh(x @ x.T),
    "sums": sums,
    "count": count,
    "branch": jax.nn.silu(branch),
    "by_code": jax.grad(lambda y: (y**2).sum())(by_code) + placed,
    "noise": noise,
    "order": jnp.argsort(x[:, 1]),
  }


class Float64Test(parameterized.TestCase):
  def test_a_program_is_as_numpy_computes_it(self):
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    index = np.array([1, 0, 1, 2], np.int32)
    found = in_float64(_program)(x, index)
    wide = x.astype(np.float64)
    branch = np.exp(wide[0])
    by_code = 2 * np.array([wide[1, 0], wide[0, 0] + wide[2, 0], wide[3, 0]])
    by_code[0] += wide[0, 0]
    folded, slopes = 0.0, []
    for total in wide.sum(1):
      slopes.append(np.cos(folded + total))
      folded = np.sin(folded + total)
    again = np.cumprod(slopes[::-1])[::-1, None]
    expected = {
      "again": np.broadcast_to(again, wide.shape),
      "product": np.tanh(wide @ wide.T),
      "sums": np.cumsum([0, *wide.sum(1)])[:-1],
      "count": 4,
      "branch": branch / (1 + np.exp(-branch)),
      "by_code": by_code,
      "noise": jax.random.uniform(jax.random.key(0), (4,)).astype(float),
      "order": np.argsort(x[:, 1]),
    }
    for name, values in expected.items():
      with self.subTest(name):
        np.testing.assert_allclose(found[name], values, rtol=1e-13, atol=1e-13)
    self.assertEqual(found["product"].dtype, np.float64)
    self.assertEqual(found["order"].dtype, np.int32)


def _coarse_device(change):
  """What is put on the device is changed by `change`."""
  genuine = jax.device_put

  def put(tree, place):
    return genuine(change(tree) if place == _device() else tree, place)

  return mock.patch.object(jax, "device_put", put)


def _scaled(tree, factor):
  return jax.tree.map(
    lambda x: x * factor if x.dtype == np.float32 else x, tree
  )


class QuantizersTest(parameterized.TestCase):
  def check(self):
    return quantizers.check_quantizer(_device(), jax.devices()[0], "vector")

  def test_a_device_that_computes_alike_holds(self):
    self.assertRegex(self.check(), r"^0 of \d+ codes differ")

  @parameterized.named_parameters(
    (
      "points",
      lambda tree: (tree[0], _scaled(tree[1], np.float32(0.9))),
      r"untrained: \d+ of \d+ codes differ",
    ),
    (
      "codewords",  # by less than codes tell
      lambda tree: _scaled(tree, np.float32(1 + 1e-4)),
      "untrained: [^$]*tolerance",
    ),
    (
      "training",  # which is given a mask, too
      lambda tree: tree if len(tree) < 3 else _scaled(tree, np.float32(1.01)),
      "training: .* differs by .*, more than",
    ),
  )
  def test_a_device_that_rounds_too_much_fails(self, change, message):
    with (
      _coarse_device(change),
      self.assertRaisesRegex(AssertionError, message),
    ):
      self.check()

  @pytest.mark.slow  # to compile
  def test_a_device_that_rounds_in_another_way_holds(self):
    rng = np.random.default_rng(0)

    def rounded(x):
      # Halves stay, so that ties do.
      if x.dtype != np.float32 or (2 * x == np.round(2 * x)).all():
        return x
      change = 1 + 2.0**-23 * rng.normal(size=x.shape)
      return (x * change).astype(np.float32)

    # Two stages with one codebook have the same sum in either order.
    with _coarse_device(lambda tree: jax.tree.map(rounded, tree)):
      figures = quantizers.check_quantizer(
        _device(), jax.devices()[0], "residual_shared"
      )
    self.assertRegex(figures, r"^[1-9]\d* of \d+ codes differ")


class Stepping:
  """Stands in for an experiment, whose device finds another gradient."""

  def step(self, device, precision, move=None):
    is_off = device == _device() and precision is None
    # 0.1 of 5; or a seed of 0, 1 or 2 times 0.01.
    change = 0.1 if is_off else 0.01 * (move or 0)
    gradient = np.array([3.0, 4.0 + change], np.float32)
    state = TrainState(
      step=np.int32(1),
      params={},
      codebook={"embedding": np.ones(3), "initialized": np.array(True)},
      opt_state=(optax.ScaleByAdamState(np.int32(1), gradient, gradient),),
    )
    return state, {"loss": np.float32(2)}


class StepsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.places = _device(), jax.devices()[0]

  def test_the_difference_of_gradients_is_told_or_fails(self):
    self.enter_context(
      mock.patch.object(steps, "experiment", lambda *_, **__: Stepping())
    )
    self.assertEqual(
      steps.check_step(*self.places, "mnist", is_small=True),
      "loss 0.0e+00, gradient 0.0e+00, codebook 0.0e+00; allowed are"
      " loss 2.0e-06, gradient 8.0e-03, codebook 2.0e-06",
    )
    self.assertEqual(
      steps.measure_default(*self.places, "mnist", is_small=True),
      "loss 0.0e+00, gradient 2.0e-02, codebook 0.0e+00",
    )
    genuine = Stepping.step
    with (
      mock.patch.object(
        Stepping,
        "step",
        lambda self, device, _, move=None: genuine(self, device, None, move),
      ),
      self.assertRaisesRegex(
        AssertionError, "gradient differs by 2.0e-02, more than 8.0e-03"
      ),
    ):
      steps.check_step(*self.places, "mnist", is_small=True)

  @pytest.mark.slow  # to compile
  def test_a_step_of_another_device_is_the_hosts(self):
    figures = steps.check_step(*self.places, "photo_patches", is_small=True)
    self.assertRegex(figures, "loss .*, gradient .*, codebook")


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.out = pathlib.Path(self.create_tempdir()) / "table.md"

  def main(self, rows, **more):
    output = io.StringIO()
    with (
      flagsaver.flagsaver(rows=rows, out=str(self.out), **more),
      contextlib.redirect_stdout(output),
      contextlib.redirect_stderr(io.StringIO()),
    ):
      status = command.main([""])
    return status, output.getvalue()

  def test_a_table_says_what_held(self):
    figures = self.out.with_suffix(".json")
    status, output = self.main("`dense`", json=str(figures))
    self.assertEqual(status, 0)
    self.assertIn("No accelerator", output)
    table = self.out.read_text()
    self.assertEndsWith(output, table)
    self.assertIn(": 4 held\n", table)
    self.assertLen(json.loads(figures.read_text())["rows"], 4)

  def test_the_status_says_that_a_row_failed(self):
    with mock.patch.object(search, "check_search", side_effect=OSError("why")):
      status, output = self.main("`dense`")
    self.assertEqual(status, 1)
    self.assertIn(": 2 held, 2 FAILED\n", output)
    self.assertIn("| FAILED | OSError: why |", self.out.read_text())

  def test_bad_arguments_are_named(self):
    with self.assertRaisesRegex(app.UsageError, "--rows is 'nothing'"):
      self.main("nothing")
    with self.assertRaisesRegex(app.UsageError, "unknown arguments"):
      command.main(["", "more"])
    self.out = self.out / "no_folder" / "table.md"
    with self.assertRaisesRegex(app.UsageError, "--out cannot be written"):
      self.main("`dense`")

  def test_a_cpu_is_needed_beside_an_accelerator(self):
    everything = jax.devices()

    def devices(platform=None):
      if platform == "cpu":
        raise RuntimeError("none")
      return everything

    with (
      mock.patch.object(jax, "devices", devices),
      self.assertRaisesRegex(app.UsageError, "JAX_PLATFORMS=cuda,cpu"),
    ):
      self.main("")

  @pytest.mark.slow
  def test_it_checks_itself(self):
    status, output = self.main("", minutes=30)
    self.assertEqual(status, 0, output)
    self.assertNotIn("not run", output)
    for name in ("kernel and scan", "time of a step", "quantizer", "step of"):
      self.assertIn(name, output)
