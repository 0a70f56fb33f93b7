import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_from
from adq_jax import Cosine
from adq_jax import Euclidean
from adq_jax import GradientUpdate
from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax.codebook import kmeans
from adq_jax.codebook.statistics import Batch

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(60, 3)).astype(np.float32)
# Of very different lengths, which decide nothing.
VECTORS = (RNG.normal(size=(7, 3)) * np.geomspace(0.1, 9, 7)[:, None]).astype(
  np.float32
)


def direction(x):
  x = np.float64(x)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def variables_of(vectors):
  return {"codebook": codebook_from(vectors).to_collection()}


@functools.partial(jax.jit, static_argnums=0)
def train(quantizer, variables, z):
  result, state = quantizer.apply(
    variables,
    z,
    train=True,
    mutable=["codebook"],
    rngs={"codebook": jax.random.key(0)},
  )
  return result, state["codebook"]


@functools.partial(jax.jit, static_argnums=0)
def gradient_of(quantizer, variables, z, weights):
  """Returns the gradient of z of weights times values, and the result."""

  def total(z):
    result = quantizer.apply(variables, z)
    return (result.values * weights).sum(), result

  return jax.grad(total, has_aux=True)(z)


class EuclideanTest(parameterized.TestCase):
  def test_nothing_moves(self):
    self.assertIs(Euclidean().compared(VECTORS), VECTORS)


class CosineTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.quantizer = VectorQuantizer(7, 3, similarity=Cosine())
    self.variables = variables_of(VECTORS)

  def test_codes_are_of_the_largest_cosine_and_values_of_length_one(self):
    _, result = gradient_of(self.quantizer, self.variables, Z, Z)
    cosines = direction(Z) @ direction(VECTORS).T
    np.testing.assert_array_equal(result.codes, cosines.argmax(axis=1))
    np.testing.assert_allclose(
      result.values, direction(VECTORS)[result.codes], atol=1e-6
    )
    error = 2 * (1 - cosines.max(axis=1)).mean() / 3
    np.testing.assert_allclose(result.loss, 0.25 * error, rtol=1e-5)
    plain = VectorQuantizer(7, 3).apply(self.variables, Z)
    self.assertTrue((plain.codes != result.codes).any())

  def test_values_have_the_gradient_of_the_direction(self):
    weights = RNG.normal(size=Z.shape).astype(np.float32)
    gradient, _ = gradient_of(self.quantizer, self.variables, Z, weights)
    along = (weights * direction(Z)).sum(axis=1, keepdims=True)
    lengths = np.linalg.norm(np.float64(Z), axis=1, keepdims=True)
    expected = (weights - along * direction(Z)) / lengths
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)

  def test_codewords_move_to_the_direction_of_the_sum_of_directions(self):
    codes = (direction(Z) @ direction(VECTORS).T).argmax(axis=1)
    sums = 0.9 * np.float64(VECTORS)  # each stands for one point
    np.add.at(sums, codes, 0.1 * direction(Z))
    quantizer = self.quantizer.clone(decay=0.9)
    _, state = train(quantizer, self.variables, Z)
    used = np.unique(codes)
    codewords = quantizer.apply(
      {"codebook": state}, jnp.arange(7), method="decode"
    )
    np.testing.assert_allclose(
      codewords[used], direction(sums)[used], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.norm(codewords, axis=1), 1, rtol=1e-6)

  def test_a_step_does_not_depend_on_lengths(self):
    lengths = 2.0 ** RNG.integers(-20, 20, size=(len(Z), 1))
    expected = train(self.quantizer, self.variables, Z)
    found = train(self.quantizer, self.variables, Z * np.float32(lengths))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)

  def test_a_parameter_learns_across_its_vector(self):
    quantizer = self.quantizer.clone(update=GradientUpdate())
    variables = jax.jit(quantizer.init)(jax.random.key(0), Z)
    gradient = jax.jit(
      jax.grad(
        lambda params: quantizer.apply({**variables, "params": params}, Z).loss
      )
    )(variables["params"])["embedding"]
    self.assertGreater(np.abs(gradient).max(), 1e-3)
    along = (gradient * direction(variables["params"]["embedding"])).sum(axis=1)
    np.testing.assert_allclose(along, 0, atol=1e-6)

  def test_zeros_have_a_code_and_no_gradient(self):
    gradient, result = gradient_of(
      self.quantizer, self.variables, np.zeros_like(Z), np.ones_like(Z)
    )
    chex.assert_trees_all_equal(gradient, jnp.zeros(Z.shape))
    self.assertBetween(int(result.codes[0]), 0, 6)
    np.testing.assert_allclose(np.linalg.norm(result.values, axis=1), 1)

  def test_k_means_compares_directions(self):
    points = direction(Z).astype(np.float32)
    first = points[:4]
    batch = Batch(
      jnp.asarray(points), jnp.ones(len(Z), bool), similarity=Cosine()
    )
    means, counts = jax.jit(lambda x: kmeans.lloyd(x, batch, 5))(first)
    expected = np.float64(first)
    for _ in range(5):
      codes = (direction(points) @ direction(expected).T).argmax(axis=1)
      expected = np.stack([points[codes == n].mean(axis=0) for n in range(4)])
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(counts, np.bincount(codes))

  @parameterized.parameters("data", "kmeans")
  def test_codewords_start_and_revive_on_directions(self, init):
    quantizer = self.quantizer.clone(placement=Placement(init, 0.5))
    variables = jax.jit(quantizer.init)(jax.random.key(0), Z)
    # A few directions, and lengths that would be sampled if they counted.
    z = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 50)] * np.float32(100)
    _, state = train(quantizer, variables, z)
    lengths = np.linalg.norm(state["embedding"], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=0.1)

  @parameterized.parameters(
    (
      {"similarity": "cosine"},
      "similarity is 'cosine'; it must be an Abs",
    ),
    ({"embedding_dim": 1}, r"embedding_dim is 1; .* similarity is Cosine\(\)"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      self.quantizer.clone(**fields).check()
