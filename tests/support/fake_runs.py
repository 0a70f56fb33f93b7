"""Directories as runs leave them, without training."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from experiments import files
from experiments.configs import changes
from experiments.configs import datasets
from experiments.model import build
from experiments.runs import workdir as workdirs
from experiments.study import paper
from experiments.study.trials import find_trials
from experiments.study.trials import Trial


def make(
  root: pathlib.Path,
  dataset: str,
  variant: str,
  seed: int = 0,
  loss: float = 0.5,
  *,
  is_finished: bool = True,
  version: str = "1.0",
  figures: Mapping[str, Any] | None = None,
  **fields,
) -> Trial:
  """Makes the run of a trial, of 200 updates unless `fields` say otherwise.

  Its summary has `figures` beside, or instead of, its own.
  """
  trial = Trial(root, dataset, variant, seed)
  config = datasets.default_config(dataset, variant)
  config.num_steps = 200
  config.seed = seed
  changes.apply(config, fields)
  trial.workdir.mkdir(parents=True)
  files.write_json(trial.workdir / workdirs.CONFIG, config.to_dict())
  streams = build.create_model(config).streams
  structures = [(s.alphabet, s.width) for s in streams if s.width]
  is_adaptive = len(structures) > 1
  shares = np.arange(1, len(structures) + 1) / len(structures)
  last = config.num_steps if is_finished else config.num_steps // 2
  lines = []
  for step in range(50, last + 1, 50):
    error = 1 / step
    values = {"loss": error, "quantization_error": error}
    if is_adaptive:
      values["quantization_error"] = list(error * shares)
      values["selection"] = list(shares / shares.sum())
    lines.append({"step": step, "split": "train", "values": values})
    gap = {"gradient_gap": loss / step}
    lines.append({"step": step + 1, "split": "train", "values": gap})
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (trial.workdir / workdirs.METRICS).write_text(text)
  if is_finished:
    summary = {
      "steps": config.num_steps,
      "version": version,
      "recon_loss_sum": loss,
      "psnr": 20.0 + loss,
      "rate_nominal": 12.0,
      "rate_coded": 11.5,
      "usage": 0.25,
      "codebooks": [
        {"structure": list(s), "selection": share, "usage": 0.5}
        for s, share in zip(structures, shares, strict=True)
      ],
    }
    if is_adaptive:
      summary["drawn"] = {"recon_loss_sum": 2 * loss}
    summary |= figures or {}
    files.write_json(trial.workdir / workdirs.SUMMARY, summary)
    picture = Image.new("RGB", (160, 40), "grey")
    picture.save(trial.workdir / "reconstructions.png")
  return trial


def curve(*points: tuple[float, float, float]) -> list[dict[str, float]]:
  """Returns the `curve` of a summary, of prices, rates and PSNRs.

  A coded rate is 1 below the nominal one, and the loss is 100 times the squared
  error.
  """
  return [
    {
      "rate_weight": price,
      "rate_nominal": rate,
      "rate_coded": rate - 1,
      "recon_loss_sum": 100 * 10 ** (-psnr / 10),
      "psnr": psnr,
    }
    for price, rate, psnr in points
  ]


def make_table_1(root: pathlib.Path, dataset: str, **fields) -> None:
  """Makes table 1's runs, with losses that the paper would have liked."""
  for i, variant in enumerate(paper.TABLE_1):
    make(root, dataset, variant, loss=0.2 + (i - 4.5) ** 2 / 100, **fields)


def by_variant(root: pathlib.Path, dataset: str) -> dict[str, list[Trial]]:
  """Returns the runs of a data set by their variants."""
  runs = {}
  for trial in find_trials(root, dataset):
    runs.setdefault(trial.variant, []).append(trial)
  return runs
