"""How the config of a run may change when the run goes on."""

from collections.abc import Iterable
from collections.abc import Mapping
import json
import pathlib
from typing import Any

import ml_collections

from experiments import files
from experiments.configs import fields as fields_lib
from experiments.errors import UserError
from experiments.runs import workdir as workdirs

# Fields that may differ when a run goes on: none of them changes a step that is
# done.  (A larger num_steps continues schedules that depend on it at their new
# values.)
MAY_CHANGE = frozenset(
  {
    "num_steps",
    "steps_per_call",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "gradient_gap_every",
    "on_nonfinite",
    "max_skipped",
    "check_replicas",
    "rate_examples",
    "data.manual_dir",
    "data.data_dir",
    "data.memory_budget_gib",
    "data.paper_batch_size",
  }
)
# Those of them that make another program of the same steps, whose results are
# the same within rounding, but not to the bit.
_OF_ROUNDING = ("steps_per_call",)


def check_same_run(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Raises a UserError if `workdir` holds a run with another config.

  A run that never got to its first step, because its data were missing, may get
  another config.
  """
  if not workdirs.is_begun(workdir):
    return
  stored, wanted = fields_of(workdirs.read_config(workdir)), fields_of(config)
  fields = sorted((stored.keys() | wanted.keys()) - MAY_CHANGE)
  differing = differences(stored, wanted, fields)
  if differing:
    raise UserError(
      f"workdir {workdir} holds a run with another config, differing in"
      f" {', '.join(differing)}; name another directory with --workdir=DIR"
    )


def rounding_changes(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> list[str]:
  """Returns a text for each changed field that affects rounding."""
  if not workdirs.is_begun(workdir):
    return []
  stored, wanted = fields_of(workdirs.read_config(workdir)), fields_of(config)
  return differences(stored, wanted, _OF_ROUNDING)


def to_store(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Returns the fields that the config.json of a run is to hold.

  A token file of an earlier version names its model by a hash of fields as they
  were called then.  So the config.json of a run that goes on keeps their names.

  Args:
    workdir: of the run.
    config: of the same run; see `check_same_run`.
  """
  values = config.to_dict()
  if not workdirs.is_begun(workdir):
    return values
  stored = files.read_json(workdir / workdirs.CONFIG)
  for field in sorted(MAY_CHANGE):
    group, _, name = field.rpartition(".")
    given = values[group] if group else values
    if name in given:
      (stored.setdefault(group, {}) if group else stored)[name] = given[name]
  return stored


def differences(
  stored: Mapping[str, Any], wanted: Mapping[str, Any], fields: Iterable[str]
) -> list[str]:
  """Returns a text for each field whose stored value is not the wanted one."""
  return [
    f"{field} ({stored.get(field)!r} there, {wanted.get(field)!r} wanted)"
    for field in fields
    if stored.get(field) != wanted.get(field)
  ]


def fields_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields of a config by name, with values as JSON has them."""
  return fields_lib.flatten(json.loads(json.dumps(config.to_dict())))
