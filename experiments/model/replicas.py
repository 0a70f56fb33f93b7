"""Checks that devices which should hold the same state do."""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import VQVAE
from experiments.model.state import TrainState
from experiments.processes.devices import AXIS
from experiments.processes.devices import unreplicate


def make_replica_check(
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[[TrainState], None]:
  """Returns a check that a replicated state is the same on all devices.

  The check compares bits, and waits for the state.  It leaves a sharded
  codebook out, of which each device has another part.  It raises a RuntimeError
  that names the arrays which differ; the cause is a bug or a broken device.

  Args:
    model: the model whose state is checked.
    devices: the devices to map over.
  """

  def to_bits(leaf: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      leaf = jax.lax.bitcast_convert_type(leaf, f"int{8 * leaf.dtype.itemsize}")
    return leaf.astype(jnp.int32).ravel()

  def are_alike(state: TrainState) -> TrainState:
    leaves, structure = jax.tree.flatten(state)
    bits = jnp.concatenate([to_bits(leaf) for leaf in leaves])
    same = jax.lax.pmax(bits, AXIS) == jax.lax.pmin(bits, AXIS)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    return structure.unflatten(
      part.all() for part in jnp.split(same, ends.tolist())
    )

  alike = jax.pmap(are_alike, AXIS, devices=devices)

  def check(state: TrainState) -> None:
    if model.sharded_size:
      state = state.replace(codebook=None)
    leaves, _ = jax.tree_util.tree_flatten_with_path(unreplicate(alike(state)))
    differing = [
      jax.tree_util.keystr(path, simple=True, separator="/")
      for path, is_same in leaves
      if not is_same
    ]
    if differing:
      raise RuntimeError(
        f"devices disagree at step {int(unreplicate(state.step))} in"
        f" {', '.join(differing)}"
      )

  return check
