"""Eight virtual CPU devices for all tests."""

import os

# Twice the devices: with fewer threads, collectives on a machine of few cores
# can wait for each other for ever.
os.environ["NPROC"] = "16"
os.environ["JAX_PLATFORMS"] = "cpu"

import chex  # noqa: E402

chex.set_n_cpu_devices(8)
