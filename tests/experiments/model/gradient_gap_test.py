import contextlib
import io
import pathlib

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data
from experiments.data import pipeline
from experiments.model import build
from experiments.model import schedules
from experiments.model.gradient_gap import make_gradient_gap
from experiments.model.state import create_state
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.processes.devices import prefetch
from experiments.processes.devices import replicate
from experiments.runs import metric_log
from experiments.runs.checkpoints import load_state
from experiments.training import loop
from tests.support import tiny


def run(root, **fields):
  with contextlib.redirect_stdout(io.StringIO()):
    loop.train_and_evaluate(tiny.config(**fields), root)


def gaps(root):
  return [
    (line["step"], line["values"]["gradient_gap"])
    for line in metric_log.read_metrics(pathlib.Path(root))
    if "gradient_gap" in line["values"]
  ]


class GradientGapTest(parameterized.TestCase):
  @parameterized.product(num_devices=(1, 8), variant=("adaptive", "fixed_16x4"))
  @pytest.mark.slow
  def test_is_that_of_the_step_to_come(self, num_devices, variant):
    config = tiny.config(variant)
    config.data.random_flip = False
    config.quantizer.placement.init = "normal"
    model = build.create_model(config, AXIS)
    devices = jax.local_devices()[:num_devices]
    state = create_state(config, model)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 16, 16, 3), np.uint8)
    (batch,) = prefetch([images], devices)
    replicated = replicate(state, devices)
    gap = make_gradient_gap(config, model, devices)(replicated, batch)
    np.testing.assert_array_equal(gap, np.full(num_devices, gap[0]))

    bound = build.create_model(config).bind(state.variables)
    x = jnp.asarray(images / 255 - 0.5, jnp.float32)
    z = bound.encoder(x)
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    _, gumbel_key, _ = jax.random.split(key, 3)
    choice = {}
    if variant == "adaptive":
      choice = {
        "draw": True,
        "temperature": schedules.temperature(config)(jnp.int32(0)),
      }

    def loss(values):
      return jnp.square(bound.decoder(values) - x).mean()

    def quantize(z):
      result = build.create_model(config).apply(
        state.variables,
        z,
        rngs={"gumbel": gumbel_key},
        method=lambda m, *args, **kwargs: m.quantizer(*args, **kwargs),
        **choice,
      )
      return result.values

    difference = jax.grad(loss)(z) - jax.grad(lambda z: loss(quantize(z)))(z)
    np.testing.assert_allclose(gap[0], jnp.linalg.norm(difference), rtol=1e-3)

  @pytest.mark.slow
  def test_the_log_has_every_value_once(self):
    root = pathlib.Path(self.create_tempdir())
    run(root / "a", gradient_gap_every=2, num_steps=2)
    run(root / "a", gradient_gap_every=2, num_steps=5)
    steps, values = zip(*gaps(root / "a"), strict=True)
    self.assertEqual(steps, (1, 3, 5))
    self.assertTrue(np.isfinite(values).all())

  @parameterized.parameters(("norm", 0), ("mean_absolute", 1))
  @pytest.mark.slow
  def test_the_authors_code_measures_it_after_the_update(self, kind, updates):
    root = pathlib.Path(self.create_tempdir())
    fields = {"gradient_gap_every": 2, "gradient_gap": kind, "num_steps": 1}
    run(root / "a", **fields)
    config = tiny.config(**fields)
    state = create_state(config, build.create_model(config))
    if updates:
      _, state = load_state(config, root / "a")
    devices = choose_devices(config.batch_size)
    batches = pipeline.TrainBatches(
      data.load(config)["train"].images,
      seed=config.seed,
      batch_size=config.batch_size,
      num_steps=1,
    )
    (batch,) = prefetch(pipeline.iterate(batches), devices)
    gap = make_gradient_gap(config, build.create_model(config, AXIS), devices)(
      replicate(state, devices), batch
    )
    ((step, value),) = gaps(root / "a")
    self.assertEqual(step, 1)
    np.testing.assert_allclose(value, gap[0], rtol=1e-4)
