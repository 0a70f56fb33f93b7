"""Whether JAX has the devices that are asked for."""

from collections.abc import Iterator
import contextlib
import logging
import sys

import jax

from experiments.errors import one_line
from experiments.errors import UserError


def check_platform() -> None:
  """Raises a UserError if JAX has no device of the platform that is asked for.

  The error names the variable that asks for it, JAX_PLATFORMS.
  """
  reasons = []
  try:
    with _collected(reasons):
      jax.devices()
  except jax.errors.JaxRuntimeError:
    raise  # of processes that do not find each other
  # JAX asserts that it has some where it skips all that are asked for.
  except (AssertionError, RuntimeError) as error:
    wanted = jax.config.jax_platforms
    why = "; ".join(reasons) or one_line(error)
    raise UserError(
      f"JAX_PLATFORMS is {wanted!r}, but JAX has no device of that kind"
      f" ({why}); unset it, or install JAX for that device"
    ) from error
  for reason in reasons:
    print(f"warning: JAX goes without a device: {reason}", file=sys.stderr)


@contextlib.contextmanager
def _collected(reasons: list[str]) -> Iterator[None]:
  """Collects in `reasons` why plugins of JAX fail, and keeps them unlogged."""

  def keep(record: logging.LogRecord) -> bool:
    if record.exc_info:
      reasons.append(one_line(record.exc_info[1]))
    return not record.exc_info

  logger = logging.getLogger("jax._src.xla_bridge")
  logger.addFilter(keep)
  try:
    yield
  finally:
    logger.removeFilter(keep)
