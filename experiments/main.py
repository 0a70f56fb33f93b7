"""Trains or evaluates a model.

python -m experiments.main --config=experiments/configs/photo_patches.py
"""

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from experiments import errors

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "FILE[:VARIANT], the experiment."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run; by default runs/NAME_VARIANT."
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate"],
  "Train, going on where workdir stands; or evaluate its latest checkpoint.",
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells much
  # Imported late, so that a wrong flag is told at once.
  from experiments import report
  from experiments import train

  config = _CONFIG.value
  try:
    name = config.name
  except OSError as error:  # of reading the file, kept for this moment
    reason = errors.one_line(error)
    raise errors.UserError(f"--config cannot be read: {reason}") from error
  workdir = _WORKDIR.value or f"runs/{name}_{config.variant}"
  run = {"train": train.train_and_evaluate, "evaluate": report.evaluate_run}
  run[_MODE.value](config, workdir)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  errors.run(main)
