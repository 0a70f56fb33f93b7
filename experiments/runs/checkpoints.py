"""Saves the checkpoints of a run, and loads a trained model from them."""

from collections.abc import Sequence
import logging
import pathlib
import shutil
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from adq_jax import VQVAE
from adq_jax.streams import symbols
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.model import build
from experiments.model.state import create_state
from experiments.model.state import merge
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.runs import checkpoint_file
from experiments.runs import frequencies
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs

_LATEST = 2  # checkpoints kept beside the best: should one be damaged
# The place of checkpoints that are not kept.  Without it, a checkpoint whose
# deletion was cut short by a kill would look damaged.
_TRASH = "trash"


class Checkpoints:
  """Saves in the background; keeps the two latest and the best.

  The best has the lowest validation mean squared error.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    template: TrainState,
    steady_path: pathlib.Path | None = None,
  ):
    """Opens a run's checkpoints, in the process that trains it.

    Damaged ones are named, and moved to `damaged/` in `workdir`.

    Args:
      workdir: the directory of the run.
      template: the result of `make_template`.
      steady_path: a path of the directory to save by; see `claims.Claim`.

    Raises:
      UserError: if there are checkpoints but no intact one, or one of another
        run, which is left as it is.
    """
    self._workdir = workdir
    self._steady_path = steady_path or workdir
    # All processes go on from what the main one reads, to the bit.
    found = hosts.from_main(lambda: _find(workdir, template))
    self._mse = {int(step): mse for step, mse in found["mse"].items()}
    self._run_id = found["run_id"]
    self.latest = None
    if self._mse:
      step = max(self._mse)
      template = checkpoint_file.with_shards(template, found["shards"])
      state = flax.serialization.from_state_dict(template, found["state"])
      self.latest = checkpoint_file.Checkpoint(
        state, found["seconds"], self._mse[step]
      )
    self._manager = ocp.CheckpointManager(
      (self._steady_path / workdirs.CHECKPOINTS).absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self,
        todelete_subdir=_TRASH,
        # They are of saves that were killed; nobody else is saving now.
        cleanup_tmp_directories=True,
      ),
    )

  def save(self, state: TrainState, seconds: float, mse: float | None) -> None:
    """Saves a state, in the background from here on.

    Args:
      state: the state as the host has it.
      seconds: the time that the run has trained for.
      mse: that of the validation split, where it was evaluated.

    Raises:
      UserError: if this or the checkpoint before cannot be written.
    """
    # The previous save moves the checkpoints that it discards to the trash.
    self.wait()
    self._empty_trash()
    # The arrays are copied: the next step may overwrite what is being saved.
    saved = checkpoint_file.Checkpoint(
      jax.tree.map(np.array, state), seconds, mse, self._run_id
    )
    step = int(saved.state.step)
    self._mse[step] = mse
    try:
      self._manager.save(step, args=saved.to_args())
    except Exception as error:  # Orbax's are of many kinds
      raise self._not_saved(error) from error

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Tells Orbax which checkpoints to keep; they come oldest first."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = set(steps[-_LATEST:])
    rated = [step for step in steps if self._mse[step] is not None]
    if rated:
      kept.add(min(rated, key=lambda step: self._mse[step]))
    return [step in kept for step in steps]

  def wait(self) -> None:
    """Returns when everything is saved.

    Raises:
      UserError: if it cannot be.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._not_saved(error) from error

  def close(self) -> None:
    """Waits until everything is saved, and closes; raises as `wait`."""
    try:
      self._manager.close()
    except Exception as error:
      raise self._not_saved(error) from error
    self._empty_trash()

  def _empty_trash(self) -> None:
    if hosts.is_main():
      trash = self._steady_path / workdirs.CHECKPOINTS / _TRASH
      shutil.rmtree(trash, ignore_errors=True)

  def _not_saved(self, error: Exception) -> UserError:
    steps = workdirs.steps_of(self._workdir)
    # Orbax names the other path.
    why = one_line(error).replace(str(self._steady_path), str(self._workdir))
    return UserError(
      f"cannot save a checkpoint in {self._workdir} ({why}); there"
      f" are those of steps {steps}: put that right, and go on with the same"
      " command"
    )


def load_model(
  workdir: str | pathlib.Path, step: int | None = None
) -> tuple[VQVAE, dict[str, Any]]:
  """Returns the model that a run trained, and its variables.

      model, variables = load_model("runs/photo_patches_adaptive")
      codes = model.apply(variables, images, method="encode")

  Those of a model with a price have the frequencies of its codes, once the run
  is done.

  Args:
    workdir: the directory of the run.
    step: the step of a checkpoint; by default that of the latest intact one.

  Raises:
    UserError: if there is no run, or no such checkpoint.
  """
  workdir = pathlib.Path(workdir)
  config = workdirs.read_config(workdir)
  model, state = load_state(config, workdir, step)
  found = None
  if model.has_price:
    of_streams = symbols(model.streams)
    found = frequencies.read(workdir, int(state.step), of_streams)
  return model, frequencies.with_tables(state.variables, found, model)


def load_state(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  step: int | None = None,
) -> tuple[VQVAE, TrainState]:
  """Returns the model of a config, and its state from a checkpoint.

  A sharded codebook comes back whole, in an unsharded quantizer.

  Args:
    config: the config of the run.
    workdir: the directory of the run.
    step: the step of a checkpoint; by default that of the latest intact one.

  Raises:
    UserError: if there is no such checkpoint.
  """
  state = merge(read_state(config, workdir, step))
  return build.create_model(config), jax.tree.map(jnp.asarray, state)


def read_state(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  step: int | None = None,
) -> TrainState:
  """Returns the state of a checkpoint, as the host has it.

  Args:
    config: the config of the run.
    workdir: the directory of the run.
    step: the step of a checkpoint; by default that of the latest intact one.

  Raises:
    UserError: if there is no such checkpoint.
  """
  template = _described(config, workdir)
  steps = workdirs.steps_of(workdir)
  if not steps:
    raise UserError(f"{workdir} has no checkpoint yet; train first")
  if step is not None and step not in steps:
    raise UserError(
      f"{workdir} has no checkpoint of step {step}; it has those of {steps}"
    )
  found = checkpoint_file.Found({}, {}, {})
  for candidate in reversed(steps) if step is None else [step]:
    checkpoint_file.read_into(found, workdir, candidate, template)
    if candidate in found.intact:
      for bad, why in found.damaged.items():
        print(f"Checkpoint {bad} of {workdir} is damaged, {why}: left out")
      for other, which in found.foreign.items():
        print(f"Checkpoint {other} of {workdir} is left out: {which}")
      return found.intact[candidate].state
  if not found.damaged and not found.foreign:
    # The run goes on, and has replaced them meanwhile.
    return read_state(config, workdir, step)
  raise _none_intact(workdir, found)


def verify_run(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> None:
  """Reads all checkpoints of a run, and prints the condition of each.

  It changes nothing.

  Raises:
    UserError: if there is none, or one is damaged.
  """
  workdir = pathlib.Path(workdir)
  if not workdirs.steps_of(workdir):
    raise UserError(f"{workdir} has no checkpoint yet; train first")
  found = checkpoint_file.read_all(workdir, _described(config, workdir))
  for step in sorted(found.intact | found.damaged | found.foreign):
    if step in found.intact:
      leaves = len(jax.tree.leaves(found.intact[step].state))
      print(f"checkpoint {step}: intact, {leaves} arrays")
    elif step in found.damaged:
      print(f"checkpoint {step}: damaged, {found.damaged[step]}")
    else:
      print(f"checkpoint {step}: left out, {found.foreign[step]}")
  checkpoint_file.refuse_foreign(workdir, found.foreign)
  if found.damaged:
    raise UserError(
      f"{len(found.damaged)} of {len(found.damaged) + len(found.intact)}"
      f" checkpoints of {workdir} are damaged; training leaves them out and"
      " goes on from the latest intact one"
    )


def make_template(
  config: ml_collections.ConfigDict, model: VQVAE
) -> TrainState:
  """Returns the shapes and dtypes of a run's state, its codebook whole."""
  return jax.eval_shape(lambda: create_state(config, model))


def _described(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> TrainState:
  """Returns the template of a config, which may be wrong in any way."""
  try:
    return make_template(config, build.create_model(config))
  except Exception as error:  # whatever is missing, or of another kind
    raise UserError(
      f"the config of {workdir} describes no model ({one_line(error)}); bring"
      f" its {workdirs.CONFIG} back from a copy"
    ) from error


def _find(workdir: pathlib.Path, template: TrainState) -> dict[str, Any]:
  """Moves damaged checkpoints aside, and describes the others.

  Returns:
    The mse of each of them; of the latest also the state, its number of shards,
    and the seconds of training.
  """
  found = checkpoint_file.read_all(workdir, template)
  checkpoint_file.refuse_foreign(workdir, found.foreign)
  intact = found.intact
  if found.damaged and not intact:
    raise _none_intact(workdir, found)
  for step, why in found.damaged.items():
    path = workdir / workdirs.CHECKPOINTS / str(step)
    place = workdirs.move_aside(workdir, path)
    print(f"Checkpoint {step} of {workdir} is damaged, {why}: now {place}")
  known = {
    "mse": {str(step): saved.mse for step, saved in intact.items()},
    "run_id": run_identity.read(workdir),
  }
  if intact:
    latest = intact[max(intact)]
    known["state"] = flax.serialization.to_state_dict(latest.state)
    known["shards"] = checkpoint_file.shards_of(latest.state)
    known["seconds"] = latest.seconds
  return known


def _none_intact(
  workdir: pathlib.Path, found: checkpoint_file.Found
) -> UserError:
  wrong = found.damaged | found.foreign
  reasons = "; ".join(f"{step}: {why}" for step, why in wrong.items())
  return UserError(
    f"no checkpoint of {workdir} is intact ({reasons}); bring one back from a"
    " copy, or start anew in another directory with --workdir=DIR"
  )


def _is_not_orbaxs(record: logging.LogRecord) -> bool:
  """Returns whether a log's record is from elsewhere than Orbax.

  Orbax also raises what it logs, and an error becomes one line here.
  """
  return "orbax" not in pathlib.Path(record.pathname).parts


logging.getLogger("absl").addFilter(_is_not_orbaxs)
