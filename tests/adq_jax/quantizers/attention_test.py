from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AttentionSelector
from adq_jax.quantizers import attention


class SelectorTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 4)
  def test_pi_is_the_mean_over_heads_of_scaled_attention(self, num_heads):
    selector = AttentionSelector(num_codebooks=5, num_heads=num_heads)
    z = jax.random.normal(jax.random.key(0), (3, 2, 8))
    variables = selector.init(jax.random.key(1), z)
    log_pi = selector.apply(variables, z)
    chex.assert_shape(log_pi, (3, 2, 5))

    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    params = params["params"]
    width = 8 // num_heads

    def dense(x, name):
      kernel = params[name]["kernel"].reshape(8, 8)
      return x @ kernel + params[name]["bias"].reshape(8)

    query = dense(np.asarray(z, np.float64), "query")
    key = dense(params["codebook_keys"], "key")
    pi = 0
    for h in range(num_heads):
      part = slice(h * width, (h + 1) * width)
      scores = np.exp(query[..., part] @ key[:, part].T / np.sqrt(width))
      pi += scores / scores.sum(axis=-1, keepdims=True) / num_heads
    chex.assert_trees_all_close(np.exp(log_pi), pi, rtol=1e-5)

  def test_as_in_pytorch_it_starts_as_its_multihead_attention(self):
    z = jnp.zeros((1, 64))
    selector = AttentionSelector(5, num_heads=2, input_init="pytorch")
    params = selector.init(jax.random.key(1), z)["params"]
    bound = np.sqrt(6 / (64 + 3 * 64))
    for name in ("query", "key"):
      kernel = params[name]["kernel"]
      self.assertLessEqual(abs(kernel).max(), bound)
      self.assertGreater(abs(kernel).max(), 0.98 * bound)
      np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
      self.assertFalse(params[name]["bias"].any())

  def test_an_init_that_is_none(self):
    with self.assertRaisesRegex(
      ValueError, "input_init is 'x'; .*'lecun_normal', 'pytorch'"
    ):
      attention.check_input_init("input_init", "x")


class ChoiceTest(parameterized.TestCase):
  def test_weights_are_one_hot_to_the_bit(self):
    logits = jax.random.normal(jax.random.key(0), (50, 7))
    weights, choice = attention.straight_through_choice(logits, 3.0)
    chex.assert_trees_all_equal(weights, jax.nn.one_hot(choice, 7))
    chex.assert_trees_all_equal(
      choice, logits.argmax(axis=-1).astype(jnp.int32)
    )

  @parameterized.parameters(0.5, 1.0, 10.0)
  def test_gradient_is_that_of_the_softmax(self, temperature):
    logits = jax.random.normal(jax.random.key(0), (4, 3))
    direction = jax.random.normal(jax.random.key(1), (4, 3))
    gradient = jax.grad(
      lambda x: jnp.sum(
        direction * attention.straight_through_choice(x, temperature)[0]
      )
    )(logits)
    expected = jax.grad(
      lambda x: jnp.sum(direction * jax.nn.softmax(x / temperature))
    )(logits)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-6)

  def test_noise_is_gumbel_and_keyed_by_example(self):
    index = jnp.array([5, 9, 5])
    noise = attention.gumbel_noise(jax.random.key(0), (3, 1000, 4), index)
    chex.assert_trees_all_equal(noise[0], noise[2])
    self.assertTrue((noise[0] != noise[1]).any())
    chex.assert_trees_all_close(noise.mean(), 0.5772, atol=0.05)
    chex.assert_trees_all_close(noise.var(), np.pi**2 / 6, atol=0.15)


class EntropyTest(parameterized.TestCase):
  def test_hand_computed(self):
    log = np.log
    some = jnp.array([[log(0.75), log(0.25)], [log(0.25), log(0.75)]])
    # The mean of pi is even, whatever each point prefers.
    chex.assert_trees_all_close(attention.choice_entropy(some), 1.0)
    first = attention.choice_entropy(some, jnp.array([1, 0]))
    chex.assert_trees_all_close(first, 0.8112781, rtol=1e-6)
    # log 0 nowhere.
    certain = jnp.array([[1e4, 0.0]])
    chex.assert_trees_all_equal(attention.choice_entropy(certain), 0.0)
    gradient = jax.grad(attention.choice_entropy)(certain)
    chex.assert_trees_all_equal(gradient, jnp.zeros((1, 2)))

  def test_the_gradient_is_that_of_the_entropy(self):
    logits = jax.random.normal(jax.random.key(0), (5, 2, 4))
    mask = jnp.ones((5, 2)).at[3:, 1].set(0)

    def entropy(logits):
      pi = jax.nn.softmax(logits)
      mean = (pi * mask[..., None]).sum(axis=(0, 1)) / mask.sum()
      return -jnp.sum(mean * jnp.log2(mean))

    chex.assert_trees_all_close(
      jax.value_and_grad(attention.choice_entropy)(logits, mask),
      jax.value_and_grad(entropy)(logits),
      rtol=1e-5,
      atol=1e-7,
    )

  def test_eight_devices_equal_one(self):
    logits = jax.random.normal(jax.random.key(0), (8, 6, 4))
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (8, 6))
    one = jax.value_and_grad(attention.choice_entropy)(logits, mask)
    many = jax.pmap(
      jax.value_and_grad(
        lambda logits, mask: attention.choice_entropy(logits, mask, "devices")
      ),
      "devices",
    )(logits, mask)
    chex.assert_trees_all_close(many[0].mean(), one[0], rtol=1e-6)
    chex.assert_trees_all_close(many[1] / 8, one[1], rtol=1e-5, atol=1e-7)
