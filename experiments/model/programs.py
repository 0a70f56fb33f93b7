"""The programs that training runs on devices."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

import jax
import ml_collections

from adq_jax import VQVAE
from experiments.model.gradient_gap import make_gradient_gap
from experiments.model.replicas import make_replica_check
from experiments.model.state import TrainState
from experiments.model.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Programs:
  """What training runs on devices.

  Attributes:
    train_step: see `step.make_train_step`.
    gradient_gap: see `gradient_gap.make_gradient_gap`.
    check_replicas: see `replicas.make_replica_check`.
  """

  train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
  gradient_gap: Callable[[TrainState, jax.Array], jax.Array]
  check_replicas: Callable[[TrainState], None]


def make_programs(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Programs:
  """Returns the programs of a run on these devices of all processes.

  Args:
    config: the config of the experiment.
    model: the model, with `AXIS` for its axis_name.
    devices: the devices to map over.
  """
  return Programs(
    make_train_step(config, model, devices),
    make_gradient_gap(config, model, devices),
    make_replica_check(model, devices),
  )
