"""A checkpoint: what it holds, and reading it without trusting its bytes.

It is a directory of Orbax's, `checkpoints/STEP`, with two items: the state, and
what is known of it, as JSON, with a hash of every array and one of itself.
Reading compares them, so that damage of any kind is found.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from adq_jax import split_codebook
from experiments import workdir as workdirs
from experiments.errors import one_line
from experiments.state import TrainState

# Fields of a config that decide what codes mean, beside the arrays.
_DECIDING = ("dtype", "model", "quantizer")


class DamagedError(Exception):
  """A checkpoint is not what was saved; the message says how."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What was saved at a step.

  Attributes:
    state: of the host, NumPy arrays.
    seconds: that the run had trained for.
    mse: of the validation split; None where it was not evaluated.
  """

  state: TrainState
  seconds: float
  mse: float | None

  def to_args(self) -> ocp.args.Composite:
    """Returns what Orbax is to save."""
    known = {
      "step": int(self.state.step),
      "seconds": self.seconds,
      "mse": self.mse,
      "shards": shards_of(self.state),
      "arrays": _hashes(self.state),
    }
    return ocp.args.Composite(
      state=ocp.args.StandardSave(self.state),
      meta=ocp.args.JsonSave({**known, "sha256": _json_hash(known)}),
    )


def steps_of(workdir: pathlib.Path) -> list[int]:
  """Returns the steps of all checkpoints of a run, ascending, whole or not."""
  names = [path.name for path in (workdir / workdirs.CHECKPOINTS).glob("*")]
  return sorted(int(name) for name in names if name.isdecimal())


def read(workdir: pathlib.Path, step: int, template: TrainState) -> Checkpoint:
  """Returns what was saved at a step, to the bit.

  Args:
    workdir: of the run.
    step: of a checkpoint.
    template: a state of the shapes and dtypes that it must have, with its
      codebook whole.

  Raises:
    DamagedError: if it is not what was saved, or of another run.
  """
  directory = _path(workdir, step).absolute()
  try:
    # Of several processes each may read alone, without waiting for others.
    alone = ocp.options.MultiprocessingOptions(
      primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    with ocp.Checkpointer(
      ocp.JsonCheckpointHandler(multiprocessing_options=alone),
      multiprocessing_options=alone,
    ) as reader:
      known = reader.restore(directory / "meta")
    digest = known.pop("sha256")
    if digest != _json_hash(known) or known["step"] != step:
      raise DamagedError("its description is not as it was saved")
    template = with_shards(template, known.get("shards"))
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as reader:
      state = reader.restore(directory / "state", template)
    for name, digest in _hashes(state).items():
      if digest != known["arrays"].get(name):
        raise DamagedError(f"{name} is not as it was saved")
    # The hash is no signature: somebody may have made another description.
    mse = known["mse"]
    return Checkpoint(
      state, float(known["seconds"]), None if mse is None else float(mse)
    )
  except DamagedError:
    raise
  except Exception as error:  # whatever damaged bytes lead to
    raise DamagedError(f"it cannot be read ({one_line(error)})") from error


def read_all(
  workdir: pathlib.Path, template: TrainState
) -> tuple[dict[int, Checkpoint], dict[int, str]]:
  """Returns the whole checkpoints, and what is wrong with the others."""
  whole, damaged = {}, {}
  for step in steps_of(workdir):
    try:
      whole[step] = read(workdir, step, template)
    except DamagedError as error:
      damaged[step] = str(error)
  return whole, damaged


def move_aside(workdir: pathlib.Path, step: int) -> pathlib.Path:
  """Moves a checkpoint to where neither the run nor Orbax looks."""
  place = workdir / "damaged" / str(step)
  count = 1
  while place.exists():
    count += 1
    place = place.with_name(f"{step}_{count}")
  place.parent.mkdir(exist_ok=True)
  os.rename(_path(workdir, step), place)
  return place


def shards_of(state: TrainState) -> int | None:
  """Of how many parts the codebook is; None where it is whole."""
  is_sharded = isinstance(state.codebook, list)
  return len(state.codebook) if is_sharded else None


def with_shards(template: TrainState, num_shards: int | None) -> TrainState:
  """Makes arrays of a template, of the shapes that were saved."""
  if num_shards is not None:
    shards = jax.eval_shape(
      lambda whole: jax.tree.map(
        lambda x: x[0], split_codebook(whole, num_shards)
      ),
      template.codebook,
    )
    template = template.replace(codebook=[shards] * num_shards)
  return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)


def identity(
  config: ml_collections.ConfigDict, variables: Mapping[str, Any]
) -> str:
  """Returns the SHA-256, in hexadecimal, of all that codes depend on.

  Args:
    config: of a run.
    variables: of its model.
  """
  fields = {name: config.to_dict()[name] for name in _DECIDING}
  return _json_hash({**fields, "arrays": _hashes(variables)})


def _path(workdir: pathlib.Path, step: int) -> pathlib.Path:
  return workdir / workdirs.CHECKPOINTS / str(step)


def _hashes(state: Any) -> dict[str, str]:
  """The SHA-256 of each array: its dtype, shape and bytes, by its name."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  hashes = {}
  for path, leaf in leaves:
    leaf = np.ascontiguousarray(leaf)
    digest = hashlib.sha256(f"{leaf.dtype} {leaf.shape}".encode())
    digest.update(leaf.data)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    hashes[name] = digest.hexdigest()
  return hashes


def _json_hash(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
