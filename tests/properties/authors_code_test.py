"""The variant `reference` against the code of the paper's authors, in PyTorch.

`tests/support/authors_code/make.py` says what was recorded there, and how.
"""

from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adq_jax.quantizers import attention
from experiments.configs import changes
from experiments.configs import fashion_mnist
from experiments.model import build
from experiments.model.state import create_optimizer
from tests.support.authors_code import conversion
from tests.support.authors_code import make


def reference():
  """The config of `reference`, as small as the code was made."""
  config = fashion_mnist.get_config("reference")
  small = {
    "data.image_size": make.SIDE,
    "model.features": make.WIDTH,
    "quantizer.capacity": 1024,
    "quantizer.structures": make.STRUCTURES,
  }
  changes.apply(config, small)
  return config


def assert_close(ours, theirs):
  """Equal but for rounding, whose size is that of the largest entry."""
  # The gradient of the keys' bias is 0, and rounding is all that it has.
  atol = 1e-5 * np.abs(theirs).max() + 1e-11
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.slow
class AuthorsCodeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.arrays = conversion.read()

  def get(self, step, kind):
    return lambda name: self.arrays[f"{step}/{kind}/{name}"]

  def step(self, step, params, codebook):
    """The loss, its gradient and all results of a step of our model."""
    model = build.create_model(reference())
    side = make.SIDE // model.downsampling
    images = self.arrays[f"{step}/images"].transpose(0, 2, 3, 1)
    noise = self.arrays[f"{step}/noise"].reshape(make.BATCH, side, side, -1)
    temperature = make.SCHEDULE - (step - 1) + 1.0

    def compute_loss(params):
      result, updated = model.apply(
        {"params": params, "codebook": codebook},
        jnp.asarray(images),
        train=True,
        temperature=temperature,
        mutable=["codebook"],
        rngs={"gumbel": jax.random.key(0)},
      )
      return result.loss, (result, updated["codebook"])

    with mock.patch.object(
      attention, "noise_of_examples", lambda *_: jnp.asarray(noise)
    ):
      return jax.value_and_grad(compute_loss, has_aux=True)(params)

  @parameterized.parameters(1, 2)
  def test_a_step_from_equal_states(self, step):
    state = self.get(step - 1, "state")
    params, codebook = conversion.params(state), conversion.codebook(state)
    (loss, (result, codebook)), gradient = self.step(step, params, codebook)

    def theirs(name):
      return self.arrays[f"{step}/{name}"]

    for i, codes in enumerate(np.moveaxis(result.quantized.codes.index, -1, 0)):
      np.testing.assert_array_equal(codes.reshape(-1, 1), theirs(f"codes/{i}"))
    book = result.quantized.codes.book.reshape(1, -1)
    np.testing.assert_array_equal(book, theirs("book"))
    chex.assert_trees_all_close(
      result.images, theirs("reconstructions").transpose(0, 2, 3, 1), atol=1e-6
    )
    np.testing.assert_allclose(result.mse, theirs("mse"), rtol=1e-6)
    errors = [theirs(f"error/{i}") for i in range(len(make.STRUCTURES))]
    np.testing.assert_allclose(
      result.quantized.metrics["quantization_error"], errors, rtol=1e-5
    )
    # Theirs has the codebook term, which trains nothing.
    np.testing.assert_allclose(
      loss + np.mean(errors), theirs("loss"), rtol=1e-6
    )
    of_theirs = conversion.params(self.get(step, "gradient"))
    jax.tree.map(assert_close, gradient, of_theirs)
    chex.assert_trees_all_close(
      codebook, conversion.codebook(self.get(step, "state")), rtol=1e-5
    )

  def test_two_steps(self):
    optimizer = create_optimizer(reference())
    state = self.get(0, "state")
    params, codebook = conversion.params(state), conversion.codebook(state)
    opt_state = optimizer.init(params)
    for step in (1, 2):
      (_, (_, codebook)), gradient = self.step(step, params, codebook)
      updates, opt_state = optimizer.update(gradient, opt_state)
      params = optax.apply_updates(params, updates)
    after = self.get(2, "state")
    chex.assert_trees_all_close(params, conversion.params(after), atol=1e-6)
    chex.assert_trees_all_close(
      codebook, conversion.codebook(after), rtol=1e-4, atol=1e-4
    )
