from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import metrics
from adq_jax import VectorQuantizer
from adq_jax import VQVAE


class CountsTest(parameterized.TestCase):
  def test_psnr(self):
    chex.assert_trees_all_close(metrics.psnr(0.01), 20.0, rtol=1e-6)
    chex.assert_trees_all_close(metrics.psnr(4.0, peak=255), 42.1102, rtol=1e-5)

  def test_histograms(self):
    counts = jnp.array([4.0, 2.0, 2.0, 0.0])
    chex.assert_trees_all_close(metrics.entropy_bits(counts), 1.5)
    chex.assert_trees_all_close(metrics.perplexity(counts), 2**1.5)
    chex.assert_trees_all_close(metrics.usage(counts), 0.75)
    self.assertEqual(metrics.entropy_bits(jnp.zeros(4)), 0)
    for figure in (metrics.entropy_bits, metrics.perplexity, metrics.usage):
      with self.assertRaisesRegex(ValueError, "shard_axis is 'nowhere', which"):
        figure(counts, "nowhere")

  def test_perplexity_of_a_split_does_not_depend_on_its_batches(self):
    batches = np.random.default_rng(0).integers(0, 5, (3, 7))
    whole = sum(np.bincount(b, minlength=5) for b in batches)
    again = np.bincount(batches.reshape(-1), minlength=5)
    self.assertEqual(metrics.perplexity(whole), metrics.perplexity(again))

  def test_nominal_rate(self):
    chex.assert_trees_all_close(metrics.nominal_rate([9.0], [512]), 9.0)
    # A quarter of the points in each of 16 and 64, half in 256, 1.5 bits to
    # say which.
    chex.assert_trees_all_close(
      metrics.nominal_rate([1.0, 1.0, 2.0], [16, 64, 256]), 6.5 + 1.5
    )

  def test_coded_rate_is_a_cross_entropy(self):
    counts = [jnp.array([3.0, 1.0]), jnp.array([0.0, 4.0])]
    reference = [jnp.array([9.5, 9.5]), jnp.array([2.5, 6.5])]
    books = -np.log2([19.5 / 29, 9.5 / 29])
    within = np.array([1.0, -np.log2(7 / 10)])
    expected = (4 * books.sum() + 4 * within.sum()) / 8
    chex.assert_trees_all_close(
      metrics.coded_rate(counts, reference), np.float32(expected), rtol=1e-5
    )

  def test_bits_of_codes_by_hand(self):
    chex.assert_trees_all_close(
      metrics.code_bits([3.5, 1.5, 0.5, 0.5]), np.float32([1, 2, 3, 3])
    )

  def test_a_single_codebook_needs_no_bits_to_be_named(self):
    rate = metrics.coded_rate([jnp.array([5.0, 5.0])], [jnp.array([1e6, 1e6])])
    chex.assert_trees_all_close(rate, 1.0, rtol=1e-5)


class GradientGapTest(parameterized.TestCase):
  def test_quadratic_by_hand(self):
    z = jnp.array([[1.2, -0.4], [0.1, 2.6]])
    weights = jnp.array([1.0, 3.0])

    def loss(x):
      return jnp.sum(weights * x**2) / 2

    def quantize(x):
      return x + jax.lax.stop_gradient(jnp.round(x) - x)

    difference = weights * (np.asarray(z) - np.round(z))
    chex.assert_trees_all_close(
      metrics.gradient_gap(loss, quantize, z),
      np.float32(np.linalg.norm(difference)),
      rtol=1e-6,
    )
    chex.assert_trees_all_close(
      metrics.gradient_gap(loss, quantize, z, kind="mean_absolute"),
      np.float32(np.abs(difference).mean()),
      rtol=1e-6,
    )
    with self.assertRaisesRegex(ValueError, "kind is 'max'"):
      metrics.gradient_gap(loss, quantize, z, kind="max")

  def test_no_gap_without_quantization(self):
    z = jnp.ones((3, 2))
    gap = metrics.gradient_gap(lambda x: jnp.sum(x**3), lambda x: x, z)
    self.assertEqual(gap, 0)

  @parameterized.parameters(*metrics.GAP_KINDS)
  def test_of_a_model_and_the_same_on_eight_devices(self, kind):
    model = VQVAE(
      quantizer=VectorQuantizer(16, 3, features=8), features=8, channels=1
    )
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 1)) / 4
    variables = model.init(jax.random.key(1), images)
    bound = model.bind(variables)

    def gap(images, axis_name=None):
      z = bound.encoder(images)
      return metrics.gradient_gap(
        lambda z: jnp.mean((bound.decoder(z) - images) ** 2),
        lambda z: bound.quantizer(z).values,
        z,
        axis_name,
        kind,
      )

    one = gap(images)
    self.assertGreater(one, 0)
    many = jax.pmap(lambda x: gap(x, "devices"), "devices")(images[:, None])
    chex.assert_trees_all_close(many, jnp.full(8, one), rtol=1e-4)
