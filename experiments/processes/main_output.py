"""What each of several processes prints."""

from collections.abc import Iterator
import contextlib
import os
import sys

import jax

from experiments.errors import one_line
from experiments.errors import UserError
from experiments.processes import hosts
from experiments.processes import sudden_end


@contextlib.contextmanager
def only_main_prints() -> Iterator[None]:
  """Silences the standard output of all processes but the main one.

  If one of several is lost, the others cannot go on.  Each of them then prints
  an error, and ends.
  """
  with contextlib.ExitStack() as stack:
    if not hosts.is_main():
      nowhere = stack.enter_context(open(os.devnull, "w"))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    try:
      yield
    except jax.errors.JaxRuntimeError as error:
      if jax.process_count() == 1:
        raise
      print(
        f"error: process {jax.process_index()} cannot go on with the others"
        f" ({one_line(error)}); if one of them was lost, start all of them"
        " again, and they go on from the latest checkpoint",
        file=sys.stderr,
        flush=True,
      )
      sudden_end.withdraw()
      # Not sys.exit, which would wait for the lost ones.
      os._exit(UserError.exit_code)
