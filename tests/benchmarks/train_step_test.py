from absl.testing import parameterized
import numpy as np
import pytest

from benchmarks import train_step


class TrainStepTest(parameterized.TestCase):
  @parameterized.parameters(*train_step._JAX)
  @pytest.mark.slow  # to compile
  def test_every_program_of_jax_takes_steps(self, name):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    run = train_step._JAX[name](images)
    run(1)
    run(2)
