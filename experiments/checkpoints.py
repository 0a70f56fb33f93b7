"""Checkpoints of a run, and the trained model back from them."""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from adq_jax import VQVAE
from experiments import settings
from experiments import workdir as workdirs
from experiments.errors import UserError
from experiments.state import create_state
from experiments.state import TrainState

_policies = ocp.checkpoint_managers


class Checkpoints:
  """Saves in the background; keeps the latest and the best.

  The best has the lowest validation mean squared error.
  """

  def __init__(self, workdir: pathlib.Path, *, read_only: bool = False):
    """Opens a run's checkpoints.

    Args:
      workdir: of the run.
      read_only: whether to leave them as they are; another process may be
        saving.
    """

    def mse(metrics: Mapping[str, float]) -> float:
      return metrics["mse"]

    # max_to_keep would delete the latest where an earlier one is better.
    policy = _policies.AnyPreservationPolicy(
      [
        _policies.LatestN(1),
        _policies.BestN(
          get_metric_fn=mse,
          reverse=True,  # ascending in quality
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      (workdir / workdirs.CHECKPOINTS).absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        best_fn=mse,
        best_mode="min",
        # Of saves that were killed; by now nobody else is saving.
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
      ),
    )

  def save(
    self,
    state: TrainState,
    seconds: float,
    metrics: Mapping[str, float] | None,
  ) -> None:
    """Saves a state, in the background from here on.

    Args:
      state: of one device.
      seconds: that the run has trained for.
      metrics: of the validation split, with `mse`, where it was evaluated.
    """
    # Copies: the next step may write where the background still reads.
    state = jax.tree.map(np.array, state)
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        meta=ocp.args.JsonSave({"seconds": seconds}),
      ),
      metrics=dict(metrics) if metrics is not None else None,
    )

  def latest_step(self) -> int | None:
    """Returns the steps done at the latest checkpoint, None without one."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """Returns the steps of all checkpoints."""
    return sorted(self._manager.all_steps())

  def restore(
    self, step: int, template: TrainState
  ) -> tuple[TrainState, float]:
    """Returns the state at a step and the seconds trained until then.

    Args:
      step: of a checkpoint.
      template: a state of the same shapes.
    """
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(template),
        meta=ocp.args.JsonRestore(),
      ),
    )
    return restored.state, restored.meta["seconds"]

  def wait(self) -> None:
    """Returns when everything is saved."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()


def load_model(
  workdir: str | pathlib.Path, step: int | None = None
) -> tuple[VQVAE, dict[str, Any]]:
  """Returns the model that a run trained, and its variables.

      model, variables = load_model("runs/photo_patches_adaptive")
      codes = model.apply(variables, images, method="encode")

  Args:
    workdir: of the run.
    step: of a checkpoint; by default the latest.

  Raises:
    UserError: if there is no run, or no such checkpoint.
  """
  workdir = pathlib.Path(workdir)
  config = workdirs.read_config(workdir)
  model, state = load_state(config, workdir, step)
  return model, state.variables


def load_state(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  step: int | None = None,
) -> tuple[VQVAE, TrainState]:
  """Returns the model of a config, and its state from a checkpoint.

  Raises:
    UserError: if there is no such checkpoint.
  """
  model = settings.create_model(config)
  if not (workdir / workdirs.CHECKPOINTS).is_dir():
    raise UserError(f"{workdir} has no checkpoint yet; train first")
  checkpoints = Checkpoints(workdir, read_only=True)
  try:
    wanted = checkpoints.latest_step() if step is None else step
    if wanted is None or wanted not in checkpoints.steps():
      raise UserError(
        f"{workdir} has no checkpoint of step {wanted}; it has those of"
        f" {checkpoints.steps()}"
      )
    state, _ = checkpoints.restore(wanted, create_state(config, model))
  finally:
    checkpoints.close()
  return model, state
