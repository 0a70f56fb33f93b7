"""Whether runs belong into one table: they may differ in their variants."""

import collections
from collections.abc import Iterable
from typing import Any

import ml_collections

from experiments.configs.datasets import default_config
from experiments.errors import UserError
from experiments.runs import config_changes
from experiments.study.trials import Trial

# Fields that may differ between runs of one table: those that a resumed run may
# change, minus those that its figures depend on, plus the seed and the variant.
_OF_FIGURES = {"num_steps", "rate_examples", "data.paper_batch_size"}
_MAY_DIFFER = config_changes.MAY_CHANGE - _OF_FIGURES | {"seed", "variant"}


def differences(trial: Trial, config: ml_collections.ConfigDict) -> list[str]:
  """Returns a text for each field of a begun run that differs from `config`."""
  stored, wanted = map(config_changes.fields_of, (trial.config, config))
  fields = [field for field in wanted if field not in _MAY_DIFFER]
  return config_changes.differences(stored, wanted, fields)


def check_alike(trials: Iterable[Trial]) -> None:
  """Raises a UserError unless finished runs differ in their variants alone.

  They must agree on the data, the batches, the steps, `RESULTS_VERSION`,
  and every other field that their variants do not change.
  """
  settings = {str(trial): _setting(trial) for trial in trials if trial.summary}
  for field in sorted(set().union(*settings.values())):
    by_value = collections.defaultdict(list)
    for name, setting in settings.items():
      by_value[repr(setting.get(field, "the default"))].append(name)
    if len(by_value) > 1:
      values = "; ".join(
        f"{value} in {', '.join(names)}" for value, names in by_value.items()
      )
      raise UserError(
        f"runs of one table disagree on {field}: {values}; tables are made of"
        " runs that differ in their variants alone: keep others in another"
        " directory"
      )


def describe(trials: Iterable[Trial]) -> str:
  """Returns how finished runs that are alike were trained; "" for none."""
  for trial in trials:
    return (
      f"; {trial.summary['steps']} updates of batch {trial.config.batch_size}"
    )
  return ""


def _setting(trial: Trial) -> dict[str, Any]:
  """Returns how a run differs from its variant, and its RESULTS_VERSION."""
  stored = config_changes.fields_of(trial.config)
  variant = default_config(trial.dataset, trial.variant)
  default = config_changes.fields_of(variant)
  setting = {
    field: stored.get(field)
    # A quantizer of another kind, or with one in a slot, has other fields.
    for field in stored.keys() | default.keys()
    if field not in _MAY_DIFFER and stored.get(field) != default.get(field)
  }
  setting["num_steps"] = trial.summary["steps"]
  setting["version"] = trial.summary.get("version")
  return setting
