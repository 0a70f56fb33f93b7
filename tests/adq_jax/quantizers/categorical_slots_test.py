from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from adq_jax import DirichletPosterior
from adq_jax import DistanceScores
from adq_jax import HardRelaxation
from adq_jax import HyperbolicScores
from adq_jax import LinearScores
from adq_jax import PositionDistanceScores
from adq_jax import SoftmaxPosterior
from adq_jax import SoftRelaxation

_LN3 = np.log(3, dtype=np.float32)


def _close(found, expected, rtol=1e-5):
  np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)


def _hyperplanes(normals, offsets):
  return {"normals": jnp.array(normals), "offsets": jnp.array(offsets)}


class PosteriorTest(parameterized.TestCase):
  @parameterized.parameters(
    (SoftmaxPosterior(), _LN3, (0.75, 0.25), 0.130812, (0.9, 0.1)),
    (DirichletPosterior(), 0.0, (0.5, 0.5), 0.125093, (0.5, 0.5)),
    (DirichletPosterior(), _LN3, (2 / 3, 1 / 3), 0.362399, (0.8, 0.2)),
  )
  def test_of_two_codewords(self, posterior, score, pi, divergence, weights):
    scores = jnp.array([[score, 0.0]])
    log_pi = posterior.log_probabilities(scores)
    _close(jnp.exp(log_pi)[0], pi)
    _close(jax.nn.softmax(log_pi / 0.5)[0], weights)
    _close(posterior.divergence(scores)[0], divergence)

  def test_large_evidence_is_right_in_float32(self):
    scores = np.zeros((1, 512), np.float32)
    scores[0, :3] = (40.0, 3.0, 2.9)  # 15 at most; about Stirling's series
    found = DirichletPosterior().divergence(jnp.asarray(scores))[0]
    alpha = np.exp(np.minimum(np.float64(scores[0]), 15)) + 1
    total = alpha.sum()
    expected = special.gammaln(total) - special.gammaln(alpha).sum()
    digamma = special.digamma(alpha) - special.digamma(total)
    expected += ((alpha - 1) * digamma).sum() - special.gammaln(512)
    _close(found, expected)

  def test_sure_scores_have_finite_gradients(self):
    scores = jnp.array([[1e6, 0.0, -1e6]])
    for posterior in (SoftmaxPosterior(), DirichletPosterior()):
      gradient = jax.grad(lambda s, p=posterior: p.divergence(s).sum())(scores)
      chex.assert_tree_all_finite(gradient)

  @parameterized.parameters(SoftmaxPosterior, DirichletPosterior)
  def test_a_weight_below_zero_is_refused(self, posterior):
    with self.assertRaisesRegex(ValueError, "kl_weight is -1"):
      posterior(-1).check()


class ScoresTest(parameterized.TestCase):
  def test_linear(self):
    parameters = {
      "kernel": jnp.array([[1.0, 2.0]]),
      "bias": jnp.array([0.5, -1.0]),
    }
    found = LinearScores().scores(parameters, jnp.array([[3.0]]))
    _close(found, [[3.5, 5.0]])

  def test_distances_up_to_a_number_for_each_point(self):
    parameters = {
      "embedding": jnp.array([[0.0], [1.0]]),
      "log_variance": jnp.log(jnp.array([0.5])),
      "variance_kernel": jnp.zeros((1, 1)),
    }
    for option in (DistanceScores(), PositionDistanceScores()):
      scores = option.scores(parameters, jnp.array([[0.25]]))
      _close(scores - 0.0625, [[-0.0625, -0.5625]])

  def test_a_position_has_a_variance(self):
    parameters = {
      "log_variance": jnp.zeros(1),
      "variance_kernel": jnp.array([[1.0], [0.0]]),
    }
    points = jnp.array([[0.0, 5.0], [1.0, 5.0]])
    found = PositionDistanceScores().variance(parameters, points)
    _close(found, [[1.0], [np.e]])

  @parameterized.parameters(0.25, 1.0, 4.0)
  def test_hyperbolic_along_a_normal_is_linear(self, curvature):
    option = HyperbolicScores(curvature)
    for z, normal, offset, expected in (
      ((0.5, 0.0), (1.0, 0.0), 0.0, 2.0),
      ((0.5, 0.0), (1.0, 0.0), 0.2, 1.2),
      ((0.3, 0.4), (1.2, 1.6), 0.1, 3.2),
    ):
      found = option.scores(_hyperplanes([normal], [offset]), jnp.array([z]))
      _close(found, [[expected]])

  def test_hyperbolic_across_a_normal(self):
    parameters = _hyperplanes([(1.0, 0.0), (0.0, 1.0)], (0.2, 0.2))
    scores = HyperbolicScores().scores(parameters, jnp.array([[0.5, 0.0]]))
    _close(scores, [[1.2, -1.195223]])
    _close(jax.nn.softmax(scores), [[0.916462, 0.083538]])

  def test_a_codeword_lies_on_its_hyperplane(self):
    parameters = _hyperplanes([(3.0, 4.0)], [0.2])
    codewords = HyperbolicScores().codewords(parameters)
    _close(codewords, [[0.12, 0.16]])
    _close(HyperbolicScores().scores(parameters, codewords), [[0.0]])

  def test_far_from_the_origin_the_longest_normal_wins(self):
    parameters = _hyperplanes([(1.0, 0.0), (1.5, 1.5)], (0.0, 0.0))
    near, far = (
      HyperbolicScores().scores(parameters, jnp.array([[x, 0.0]]))[0]
      for x in (1e6, 1e30)
    )
    chex.assert_tree_all_finite((near, far))
    self.assertEqual(int(far.argmax()), 1)
    gradient = jax.grad(
      lambda z: HyperbolicScores().scores(parameters, z).sum()
    )
    for z in (0.0, 1e-30, 1e6):
      chex.assert_tree_all_finite(gradient(jnp.full((1, 2), z)))

  @parameterized.parameters(0, -1.0, float("nan"))
  def test_what_is_not_above_zero_is_refused(self, value):
    with self.assertRaisesRegex(ValueError, "initial_variance is"):
      DistanceScores(value).check()
    with self.assertRaisesRegex(ValueError, "curvature is"):
      HyperbolicScores(value).check()


class RelaxationTest(parameterized.TestCase):
  def test_hard_has_the_value_of_a_codeword_and_the_gradient_of_weights(self):
    weights = jnp.array([[0.75, 0.25]])
    codewords = jnp.array([[1.0], [3.0]])
    for relaxation, value, of_codewords in (
      (SoftRelaxation(), 1.5, [[0.75], [0.25]]),
      (HardRelaxation(), 1.0, [[1.0], [0.0]]),
    ):
      found, gradients = jax.value_and_grad(
        lambda w, c, r=relaxation: r.values(w, jnp.array([0]), c).sum(), (0, 1)
      )(weights, codewords)
      _close(found, value)
      _close(gradients[0], [[1.0, 3.0]])
      _close(gradients[1], of_codewords)
