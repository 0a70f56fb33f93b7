import pathlib
from unittest import mock

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook import placement
from adq_jax.codebook import state as codebooks
from experiments.model import build
from experiments.model import replicas
from experiments.model.state import TrainState
from experiments.processes import devices as device_lib
from experiments.processes.devices import AXIS
from experiments.training import loop
from tests.support import tiny


class ReplicaCheckTest(parameterized.TestCase):
  def state(self):
    codebook = codebooks.init_codebook(jax.random.key(0), 4, 2)
    params = {
      "bias": jnp.array([0.0, jnp.nan]),
      "half": jnp.ones(3, "bfloat16"),
    }
    state = TrainState(jnp.int32(7), params, codebook, ())
    return device_lib.replicate(state, jax.devices())

  def test_names_what_differs_on_a_single_device_in_a_single_bit(self):
    check = replicas.make_replica_check(
      build.create_model(tiny.config()), jax.devices()
    )
    state = self.state()
    check(state)  # NaN is NaN

    for name, value in (("cluster_size", 1.0000001), ("initialized", False)):
      leaf = _changed(getattr(state.codebook, name), value)
      broken = state.replace(codebook=state.codebook.replace(**{name: leaf}))
      with self.assertRaisesRegex(
        RuntimeError, f"^devices disagree at step 7 in codebook/{name}$"
      ):
        check(broken)
    params = dict(state.params)
    params["bias"] = _changed(params["bias"], -0.0)
    params["half"] = _changed(params["half"], 1.0078125)
    with self.assertRaisesRegex(RuntimeError, "in params/bias, params/half$"):
      check(state.replace(params=params))

  def test_ends_a_run_whose_devices_place_codewords_apart(self):
    place = placement.initialize_from_data

    def apart(key, *args, **kwargs):
      key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
      return place(key, *args, **kwargs)

    root = pathlib.Path(self.create_tempdir()) / "run"
    fields = {"check_replicas": True, "quantizer.placement.init": "data"}
    config = tiny.config("fixed_16x4", **fields)
    with mock.patch.object(placement, "initialize_from_data", apart):
      with self.assertRaisesRegex(
        RuntimeError, "^devices disagree at step 1 in codebook/.*embedding"
      ):
        loop.train_and_evaluate(config, root)


def _changed(leaf, value):
  """The same array, but for its first value on the sixth device."""
  values = np.array(leaf)
  values.reshape(len(values), -1)[5, 0] = value
  return jax.device_put(values, leaf.sharding)
