"""Trains a model, evaluates it, checks what is left of it, and uses it.

python -m experiments.main --config=experiments/configs/photo_patches.py
"""

import pathlib

from absl import app
from absl import flags
from absl import logging
import ml_collections

from experiments import errors
from experiments.configs import config_file
from experiments.processes import command
from experiments.processes import compilation

for _module in (config_file, compilation):
  flags.adopt_module_key_flags(_module)  # which --help shows
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run; by default runs/NAME_VARIANT."
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate", "verify", "encode", "decode"],
  "Train, going on where workdir stands; evaluate its latest checkpoint; check"
  " that its checkpoints are intact; turn images into a token file; or that"
  " into images again.",
)
_INPUT = flags.DEFINE_string(
  "input", None, "Folder of images to encode, or token file to decode."
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "Token file to write, or folder of decoded images."
)
_CROP = flags.DEFINE_bool(
  "crop",
  False,
  "In encoding, cut what is over at the edges of images whose sides are no"
  " multiples of the model's downsampling.",
)
_SKIP_BAD = flags.DEFINE_bool(
  "skip_bad",
  False,
  "In encoding, leave out files that cannot be encoded, and list them.",
)
_RATES = {
  kind: flags.DEFINE_float(kind, None, about)
  for kind, about in {
    "rate_weight": "In encoding with a model that has a price of bits, what a"
    " bit costs: more for fewer bits; by default the middle of the prices in"
    " training.",
    "bits_per_pixel": "Instead of --rate_weight, the coded bits for a pixel of"
    " all images to stay within.",
    "psnr": "Instead of --rate_weight, the PSNR in dB over all images to"
    " reach.",
  }.items()
}
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of process 0, if there are several.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "How many processes train together.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which of them this is, from 0 on.", lower_bound=0
)
_HEARTBEAT = flags.DEFINE_integer(
  "heartbeat_seconds",
  60,
  "After which a silent process counts as lost, and the others end.",
  lower_bound=1,
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells much
  given = _rate_flags()
  config, workdir = _config_and_workdir()
  # Imported late, so that a wrong flag or field is told at once.
  from experiments.evaluation import run_evaluation
  from experiments.processes import joining
  from experiments.processes import main_output
  from experiments.runs import checkpoints
  from experiments.tokens import decoding
  from experiments.tokens import encoding
  from experiments.tokens.rate_target import Target
  from experiments.training import loop

  target = Target(*given) if given else None
  joining.initialize(
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
    _HEARTBEAT.value,
  )
  compilation.keep_programs()
  if _MODE.value in ("encode", "decode"):
    paths = _paths()
    if _MODE.value == "encode":
      encoding.encode(
        config,
        workdir,
        *paths,
        crop=_CROP.value,
        skip_bad=_SKIP_BAD.value,
        target=target,
      )
    else:
      decoding.decode(config, workdir, *paths)
    return
  run = {
    "train": loop.train_and_evaluate,
    "evaluate": run_evaluation.evaluate_run,
    "verify": checkpoints.verify_run,
  }
  with main_output.only_main_prints():
    run[_MODE.value](config, workdir)


def _rate_flags() -> tuple[str, float] | None:
  """Returns the flag that says at which rate to encode, and its value."""
  given = [
    (kind, flag.value)
    for kind, flag in _RATES.items()
    if flag.value is not None
  ]
  names = " and ".join(f"--{kind}" for kind, _ in given)
  if len(given) > 1:
    raise errors.UserError(f"{names} are given together; give one of them")
  if given and _MODE.value != "encode":
    raise errors.UserError(
      f"{names} is for --mode=encode, and the mode is {_MODE.value}; leave it"
      " out"
    )
  return given[0] if given else None


def _paths() -> tuple[pathlib.Path, pathlib.Path]:
  paths = tuple(command.path_of(flag) for flag in (_INPUT, _OUTPUT))
  for flag, path in zip((_INPUT, _OUTPUT), paths, strict=True):
    if path is None:
      raise errors.UserError(
        f"--{flag.name} is missing; --mode={_MODE.value} needs --input and"
        " --output"
      )
  return paths


def _config_and_workdir() -> tuple[ml_collections.ConfigDict, pathlib.Path]:
  """Returns the config and workdir; either flag may imply the other."""
  from experiments.runs import workdir as workdirs

  workdir = command.path_of(_WORKDIR)
  config = config_file.from_flags()
  if config is not None:
    default = pathlib.Path(f"runs/{config.name}_{config.variant}")
    return config, workdir or default
  if workdir is None:
    raise errors.UserError(
      "--config is missing; give --config=FILE[:VARIANT], or for a run that"
      " there is, --workdir=DIR"
    )
  return workdirs.read_config(workdir), workdir


if __name__ == "__main__":
  command.run(main, config_file.parse_flags)
