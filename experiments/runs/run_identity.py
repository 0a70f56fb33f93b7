"""The identity of a run, which distinguishes its files from another's."""

import collections
import contextlib
import json
import pathlib
from typing import Any

from experiments import files
from experiments.runs import workdir as workdirs


def read(workdir: pathlib.Path) -> str:
  """Returns the identity of the run in `workdir`.

  A run gets an identity when it begins, and writes it into all of its files, so
  that files of another run can be recognized.  The identity is "" for a run
  that was made before there were identities.
  """
  try:
    known = files.read_json(workdir / workdirs.CONFIG)[workdirs.RUN_ID]
    if isinstance(known, str):
      return known
  except (FileNotFoundError, KeyError, TypeError, files.UnreadableError):
    pass
  # This config.json is older than identities, or was restored from an older
  # copy.  The log may have the identity.
  lines = []
  with contextlib.suppress(OSError):
    lines = (workdir / workdirs.METRICS).read_bytes().splitlines()
  found = collections.Counter()
  for line in lines:
    with contextlib.suppress(AttributeError, RecursionError, ValueError):
      found[str(json.loads(line).get(workdirs.RUN_ID, ""))] += 1
  return found.most_common(1)[0][0] if found else ""


def as_field(workdir: pathlib.Path) -> dict[str, str]:
  """Returns the field that names the run in its files, {} without identity."""
  run_id = read(workdir)
  return {workdirs.RUN_ID: run_id} if run_id else {}


def is_own(found: Any, run_id: str) -> bool:
  """Returns whether a file with the identity `found` is of the run `run_id`.

  A file without an identity is older than identities, and counts as the run's.
  """
  return found is None or found == run_id
