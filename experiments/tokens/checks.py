"""What is checked before images are encoded, or a token file decoded."""

import pathlib

import jax
import ml_collections

from adq_jax import VQVAE
from experiments.errors import UserError
from experiments.model import check
from experiments.runs import config_changes
from experiments.tokens import output_place


def check_request(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, output: pathlib.Path
) -> None:
  """Refuses processes, configs and outputs that cannot work."""
  if jax.process_count() > 1:
    raise UserError(
      "--mode=encode and --mode=decode are for one process; start one, without"
      " --num_processes"
    )
  check.check(config)
  config_changes.check_same_run(workdir, config)
  with output_place.replacing(output, is_trial=True):
    pass


def check_streams(model: VQVAE) -> None:
  """Refuses a model whose codes no file can hold."""
  if not model.streams:
    name = type(model.quantizer).__name__
    raise UserError(
      f"the model's quantizer is a {name}, whose codes are not finite in"
      " number; take a run with another quantizer"
    )
