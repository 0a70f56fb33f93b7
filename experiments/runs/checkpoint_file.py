"""A checkpoint on disk, which is read without trust in its bytes.

It is a directory of Orbax's, `checkpoints/STEP`, with two items.  One is the
state.  The other is a description as JSON, with a hash of every array and a
hash of itself.  Reading compares the hashes, so it finds damage of any kind.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from adq_jax import split_codebook
from experiments import files
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.model.state import TrainState
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs


class DamagedError(Exception):
  """A checkpoint is not what was saved; the message says how."""


class ForeignError(DamagedError):
  """A checkpoint is of another run; the message says of which."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """The content of a checkpoint.

  Attributes:
    state: the state as the host has it, in NumPy arrays.
    seconds: the time that the run had trained for.
    mse: that of the validation split; None if it was not evaluated.
    run_id: the identity of the run; "" if it has none.
  """

  state: TrainState
  seconds: float
  mse: float | None
  run_id: str = ""

  def to_args(self) -> ocp.args.Composite:
    """Returns the items that Orbax saves."""
    known = {
      "step": int(self.state.step),
      "seconds": self.seconds,
      "mse": self.mse,
      "shards": shards_of(self.state),
      "arrays": array_hashes(self.state),
    }
    if self.run_id:
      known[workdirs.RUN_ID] = self.run_id
    return ocp.args.Composite(
      state=ocp.args.StandardSave(self.state),
      meta=ocp.args.JsonSave({**known, "sha256": json_hash(known)}),
    )


def read(workdir: pathlib.Path, step: int, template: TrainState) -> Checkpoint:
  """Returns what was saved at a step, to the bit.

  Args:
    workdir: the directory of the run.
    step: the step of the checkpoint.
    template: a state of the expected shapes and dtypes, with its codebook not
      sharded.

  Raises:
    DamagedError: if the checkpoint is not what was saved.
    ForeignError: if it is of another run.
  """
  directory = _path(workdir, step).absolute()
  try:
    # Each of several processes may read alone, without waiting for others.
    alone = ocp.options.MultiprocessingOptions(
      primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    with ocp.Checkpointer(
      ocp.JsonCheckpointHandler(multiprocessing_options=alone),
      multiprocessing_options=alone,
    ) as reader:
      known = reader.restore(directory / "meta")
    digest = known.pop("sha256")
    if digest != json_hash(known) or known["step"] != step:
      raise DamagedError("its description is not as it was saved")
    _check_own(workdir, known)
    template = with_shards(template, known.get("shards"))
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as reader:
      state = reader.restore(directory / "state", template)
    for name, digest in array_hashes(state).items():
      if digest != known["arrays"].get(name):
        raise DamagedError(f"{name} is not as it was saved")
    # The hash is no signature, so types are checked: anybody can make another
    # description with a hash that fits.
    mse = known["mse"]
    return Checkpoint(
      state,
      float(known["seconds"]),
      None if mse is None else float(mse),
      known.get(workdirs.RUN_ID, ""),
    )
  except DamagedError:
    raise
  except Exception as error:  # whatever damaged bytes lead to
    raise DamagedError(f"it cannot be read ({one_line(error)})") from error


@dataclasses.dataclass
class Found:
  """The checkpoints of a directory, by step.

  Attributes:
    intact: those that are what was saved.
    damaged: what is wrong with each damaged one.
    foreign: the run of each one that is not the directory's.
  """

  intact: dict[int, Checkpoint]
  damaged: dict[int, str]
  foreign: dict[int, str]


def read_all(workdir: pathlib.Path, template: TrainState) -> Found:
  """Reads every checkpoint that there is.

  Some may vanish meanwhile, because the run goes on and keeps others; they are
  left out.
  """
  found = Found({}, {}, {})
  while steps := workdirs.steps_of(workdir):
    for step in steps:
      read_into(found, workdir, step, template)
    if found.intact or found.damaged or found.foreign:
      break  # otherwise all of them were removed while they were read
  return found


def read_into(
  found: Found, workdir: pathlib.Path, step: int, template: TrainState
) -> None:
  """Reads a checkpoint and adds it to `found`, unless it vanishes meanwhile."""
  try:
    found.intact[step] = read(workdir, step, template)
  except ForeignError as error:
    found.foreign[step] = str(error)
  except DamagedError as error:
    if os.path.lexists(_path(workdir, step)):
      found.damaged[step] = str(error)


def check_own(workdir: pathlib.Path) -> None:
  """Raises a UserError if a checkpoint is of another run, however damaged.

  It reads no arrays, only the description that names the run.
  """
  foreign = {}
  for step in workdirs.steps_of(workdir):
    try:
      known = files.read_json(_path(workdir, step) / "meta" / "metadata")
      _check_own(workdir, known)
    except ForeignError as error:
      foreign[step] = str(error)
    except (AttributeError, OSError, files.UnreadableError):
      pass  # `read` tells what is wrong with it
  refuse_foreign(workdir, foreign)


def refuse_foreign(workdir: pathlib.Path, foreign: Mapping[int, str]) -> None:
  """Raises a UserError that names checkpoints of other runs, if there are any.

  Steps of two runs in one directory would get in each other's way.
  """
  if foreign:
    named = "; ".join(
      f"{_path(workdir, step)}: {which}" for step, which in foreign.items()
    )
    raise UserError(
      f"{workdir} holds checkpoints that are not its own ({named}); move them"
      " away, and give the same command again"
    )


def _check_own(workdir: pathlib.Path, known: Mapping[str, Any]) -> None:
  found = known.get(workdirs.RUN_ID)
  if not run_identity.is_own(found, run_identity.read(workdir)):
    raise ForeignError(f"it is of another run, {found}")


def shards_of(state: TrainState) -> int | None:
  """Returns the number of parts of a codebook; None where it is not sharded."""
  is_sharded = isinstance(state.codebook, list)
  return len(state.codebook) if is_sharded else None


def with_shards(template: TrainState, num_shards: int | None) -> TrainState:
  """Returns a template as arrays, its codebook in `num_shards` parts."""
  if num_shards is not None:
    shards = jax.eval_shape(
      lambda codebook: jax.tree.map(
        lambda x: x[0], split_codebook(codebook, num_shards)
      ),
      template.codebook,
    )
    template = template.replace(codebook=[shards] * num_shards)
  return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)


def array_hashes(state: Any) -> dict[str, str]:
  """Returns the SHA-256 of each array's dtype, shape and bytes, by its name."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  hashes = {}
  for path, leaf in leaves:
    leaf = np.ascontiguousarray(leaf)
    digest = hashlib.sha256(f"{leaf.dtype} {leaf.shape}".encode())
    digest.update(leaf.data)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    hashes[name] = digest.hexdigest()
  return hashes


def json_hash(value: Any) -> str:
  """Returns the SHA-256, in hexadecimal, of a value as JSON."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _path(workdir: pathlib.Path, step: int) -> pathlib.Path:
  return workdir / workdirs.CHECKPOINTS / str(step)
