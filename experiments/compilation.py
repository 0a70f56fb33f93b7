"""Which programs that JAX compiled are kept for the next command."""

import jax


def keep_none_that_may_go_wrong() -> None:
  """Turns JAX's cache of compiled programs off where it is not safe.

  Several devices of the CPU backend add up and gather in the order of the
  program.  One that is read from the cache has lost that order: two collectives
  that do not depend on each other may meet, and then the process crashes, or
  numbers are silently wrong.  Accelerators keep the order, and a single device
  has nothing to gather.
  """
  if jax.default_backend() == "cpu" and jax.device_count() > 1:
    jax.config.update("jax_enable_compilation_cache", False)
