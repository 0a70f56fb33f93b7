"""How the benchmarks measure time and memory (on Linux).

Machines are noisy.  So programs are measured in turn, in one run, and their
medians are compared.
"""

from collections.abc import Callable
from collections.abc import Mapping
import os
import pathlib
import re
import statistics
import sys
import time
from typing import Any

# Seconds before a turn.  After a call its threads spin for up to 30 ms and wait
# for more work, on the CPUs of the program that is timed next.
# (OMP_WAIT_POLICY=passive forbids that, and makes PyTorch slower by a third.)
_PAUSE = 0.1
# Seconds of a turn.  Threads that slept may wake on one CPU and share it for
# some calls of a few milliseconds, which then take twice as long.
_TURN = 0.3


def two_threads() -> None:
  """Restricts this process to two CPUs, with one thread on each.

  Call it before JAX computes anything and before torch and faiss are imported,
  since they read these settings when they start.

  Raises:
    RuntimeError: if torch or faiss are imported already.
  """
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
  os.environ["OMP_NUM_THREADS"] = "2"
  libraries = {"torch", "faiss"} & sys.modules.keys()
  if libraries:
    raise RuntimeError(f"{', '.join(sorted(libraries))} started before")


def in_turn(
  functions: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
  """Calls functions in turn, round after round, short ones many times a turn.

  Args:
    functions: by name; each returns when its result is ready.
    rounds: the number of turns of each function.

  Returns:
    The seconds of every call, by name.
  """
  seconds = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      time.sleep(_PAUSE)
      until = time.perf_counter() + _TURN
      while True:
        seconds[name].append(timed(function)[1])
        if time.perf_counter() >= until:
          break
  return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
  """Returns the median of the seconds of each function, by its name."""
  return {name: statistics.median(values) for name, values in seconds.items()}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
  """Calls a function; returns its result and the seconds that it took."""
  started = time.perf_counter()
  result = function()
  return result, time.perf_counter() - started


def peak_memory() -> int:
  """Returns the peak memory of this process so far, in bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
