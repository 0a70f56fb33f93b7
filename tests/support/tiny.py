"""A config that trains in seconds, and what a run of it leaves."""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

import ml_collections

from experiments.configs import changes
from experiments.configs import photo_patches
from experiments.configs import variants
from experiments.runs import metric_log


def config(variant: str = "adaptive", **fields) -> ml_collections.ConfigDict:
  tiny = photo_patches.get_config("quick_start_attention")
  variants.apply(tiny, variant)
  tiny.data.image_size = 16
  return shrunk(tiny, **fields)


def shrunk(
  tiny: ml_collections.ConfigDict, **fields
) -> ml_collections.ConfigDict:
  tiny.num_steps = 6
  tiny.batch_size = 16
  tiny.log_every = 1
  tiny.eval_every = 4
  tiny.checkpoint_every = 2
  tiny.rate_examples = 40
  tiny.model.features = 8
  if tiny.quantizer.get("structures") == ():  # all that a capacity gives
    tiny.quantizer.capacity = 64
  changes.apply(tiny, fields)
  return tiny


def command(workdir: pathlib.Path, fields: Mapping[str, Any]) -> list[str]:
  """What trains one small codebook in a process of its own."""
  return [
    sys.executable,
    "-m",
    "experiments.main",
    "--config=experiments/configs/photo_patches.py:fixed_16x4",
    f"--workdir={workdir}",
    *(f"--config.{name}={value}" for name, value in fields.items()),
  ]


def logged(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The log, less what depends on the clock."""
  lines = metric_log.read_metrics(workdir)
  for line in lines:
    for name in ("steps_per_second", "data_wait"):
      line["values"].pop(name, None)
  return lines
