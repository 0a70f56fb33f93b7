"""What changes from step to step: the learning rate and the temperature."""

import jax.numpy as jnp
import ml_collections
import optax


def learning_rate(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns the learning rate as a function of the steps done."""
  peak, warmup = config.learning_rate, config.warmup_steps
  if config.schedule == "cosine":
    main = optax.cosine_decay_schedule(peak, max(config.num_steps - warmup, 1))
  else:
    main = optax.constant_schedule(peak)
  rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
  return optax.join_schedules([rise, main], [warmup])


def temperature(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns tau as a function of the steps done (appendix A.1).

  In step s, counted from 1, it is num_steps - s + 1.
  """
  if config.sampling.temperature == "constant":
    return optax.constant_schedule(1.0)
  return lambda steps_done: (config.num_steps - steps_done).astype(jnp.float32)
