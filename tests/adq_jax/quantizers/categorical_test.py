import math
import re
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import CategoricalQuantizer
from adq_jax import DirichletPosterior
from adq_jax import DistanceScores
from adq_jax import HyperbolicScores
from adq_jax import SoftmaxPosterior
from adq_jax.quantizers import categorical

KEYS = {"gumbel": jax.random.key(3)}


class CategoricalTest(parameterized.TestCase):
  def test_a_step_of_sq_vae_by_hand(self):
    quantizer = CategoricalQuantizer(
      2, 1, scores=DistanceScores(), posterior=SoftmaxPosterior(1.0)
    )
    params = {
      "embedding": jnp.array([[0.0], [1.0]]),
      "log_variance": jnp.log(jnp.array([0.5])),
    }

    def loss(params, z, temperature):
      result = quantizer.apply(
        {"params": params}, z, train=True, draw=False, temperature=temperature
      )
      return result.loss, result.values

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (total, values), (gradients, of_z) = step(params, jnp.array([[0.25]]), 1.0)
    np.testing.assert_allclose(values, [[0.377541]], rtol=1e-5)
    np.testing.assert_allclose(total, 0.046566, rtol=1e-4)
    np.testing.assert_allclose(of_z, [[-0.370195]], rtol=1e-5)
    np.testing.assert_allclose(gradients["log_variance"], -0.045045, rtol=1e-4)
    (total, values), _ = step(params, jnp.array([[0.25]]), 0.5)
    np.testing.assert_allclose(values, [[0.268941]], rtol=1e-5)
    np.testing.assert_allclose(total - 0.030300, 0.000359, atol=1e-6)

  def test_noise_depends_neither_on_blocks_nor_on_the_batch(self):
    quantizer = CategoricalQuantizer(16, 4)
    z = jax.random.normal(jax.random.key(0), (3, 5, 4))
    variables = quantizer.init(jax.random.key(1), z)
    index = jnp.array([4, 7, 9])

    def step(variables, z, index):
      result = quantizer.apply(
        variables, z, train=True, example_index=index, rngs=KEYS
      )
      return jnp.square(result.values).sum(), result

    whole = jax.grad(step, (0, 1), has_aux=True)(variables, z, index)
    with mock.patch.object(categorical, "_AT_ONCE", 4 * 16):
      blocks = jax.grad(step, (0, 1), has_aux=True)(variables, z, index)
    chex.assert_trees_all_close(blocks, whole, rtol=1e-5, atol=1e-5)
    _, part = step(variables, z[1:2], index[1:2])
    chex.assert_trees_all_equal(part.codes[0], whole[1].codes[1])
    chex.assert_trees_all_close(part.values[0], whole[1].values[1], rtol=1e-5)

  def test_draws_are_of_the_softmax(self):
    quantizer = CategoricalQuantizer(2, 1)
    params = {
      "embedding": jnp.array([[0.0], [1.0]]),
      "kernel": jnp.zeros((1, 2)),
      "bias": jnp.log(jnp.array([3.0, 1.0])),
    }
    z = jnp.zeros((1, 20_000, 1))
    apply = jax.jit(
      lambda draw: quantizer.apply({"params": params}, z, draw=draw, rngs=KEYS)
    )
    np.testing.assert_allclose(apply(True).values.mean(), 0.25, atol=0.012)
    # Evaluation takes the best, as does a draw that is refused later.
    chex.assert_trees_all_equal(apply(False).values, z)

  def test_no_array_has_all_points_times_all_codewords(self):
    size, points = 2**14, 64 * 7 * 7
    quantizer = CategoricalQuantizer(size, 8)
    z = jax.ShapeDtypeStruct((64, 7, 7, 8), jnp.float32)
    variables = jax.eval_shape(quantizer.init, jax.random.key(0), z)

    def loss(variables, z):
      result = quantizer.apply(variables, z, train=True, rngs=KEYS)
      return result.loss + jnp.square(result.values).sum()

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(variables, z).compile()
    shapes = re.findall(r"[a-z]\d+\[([\d,]+)\]", compiled.as_text())
    largest = max(math.prod(map(int, x.split(","))) for x in set(shapes))
    self.assertLessEqual(largest, 2**22)
    memory = compiled.memory_analysis().temp_size_in_bytes
    self.assertLess(memory, 4 * points * size)

  @parameterized.parameters(DistanceScores(), HyperbolicScores())
  def test_evidence_comes_of_a_layer(self, scores):
    quantizer = CategoricalQuantizer(
      8, 2, scores=scores, posterior=DirichletPosterior()
    )
    with self.assertRaisesRegex(ValueError, "posterior is .* scores is"):
      quantizer.check()
