"""Writes the metrics of a run: metrics.jsonl and TensorBoard events.

`experiments.runs.metric_log` reads metrics.jsonl again.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np
import tensorboardX

from experiments import files
from experiments.processes import hosts
from experiments.runs import metric_log
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs


class MetricLog:
  """Appends to a run's metrics.jsonl and its TensorBoard events.

  A line is `{"step": 50, "split": "train", "values": {"loss": 0.1, ...},
  "run_id": "..."}`, the last with the identity of the run.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    """Opens the log of a run that has done `first_step` steps.

    Lines of later steps, which an interrupted run wrote, are cut off.  Lines
    that are damaged, or of another run, are left out, and a copy of the file is
    kept.  Only the main one of several processes writes.
    """
    self._writes = hosts.is_main()
    if not self._writes:
      return
    path = workdir / workdirs.METRICS
    log = metric_log.read_log(workdir)
    if log.problems:
      place = workdirs.copy_aside(workdir, path)
      print(f"{'; '.join(log.problems)}: a copy is {place}")
    kept = [
      raw
      for raw, line in zip(log.raw, log.lines, strict=True)
      if line["step"] <= first_step
    ]
    with files.replacing(path) as temporary:
      temporary.write_bytes(b"".join(raw + b"\n" for raw in kept))
    self._identity = run_identity.as_field(workdir)
    self._file = open(path, "a")
    self._events = tensorboardX.SummaryWriter(
      str(workdir / workdirs.TENSORBOARD), purge_step=first_step + 1
    )

  def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Adds a line: scalars and vectors by name."""
    if not self._writes:
      return
    values = {name: _as_json(value) for name, value in values.items()}
    line = {"step": step, "split": split, "values": values}
    line |= self._identity
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    for name, value in values.items():
      for place, scalar in np.ndenumerate(np.array(value, object)):
        suffix = "".join(f"/{i}" for i in place)
        if scalar is not None:
          self._events.add_scalar(f"{split}/{name}{suffix}", scalar, step)

  def close(self) -> None:
    if not self._writes:
      return
    self._file.close()
    self._events.close()


def _as_json(value: Any) -> Any:
  """Returns a scalar or vector for JSON, with None where it is not finite."""
  value = np.asarray(value)
  return np.where(np.isfinite(value), value.astype(object), None).tolist()
