from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AffineCodewords
from adq_jax import FreeCodewords
from adq_jax import FrozenUpdate
from adq_jax import GradientUpdate
from adq_jax import LinearCodewords
from adq_jax import Placement
from adq_jax import ResidualQuantizer
from adq_jax import VectorQuantizer
from tests.support.small import make_variables
from tests.support.small import train


class FreeCodewordsTest(parameterized.TestCase):
  def test_they_are_the_vectors(self):
    vectors = jnp.arange(6.0).reshape(3, 2)
    chex.assert_trees_all_equal(FreeCodewords().make(2)(vectors), vectors)
    FreeCodewords().check()


class LinearCodewordsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.quantizer = VectorQuantizer(
      3,
      2,
      commitment_cost=0.0,
      update=FrozenUpdate(decay=0.5),
      codewords=LinearCodewords(),
    )
    self.z = jnp.array([[2.0, 0.0]])
    made = make_variables(self.quantizer, self.z)
    linear = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    self.variables = {
      "params": {"to_codewords": {"linear": linear}},
      "codebook": {
        **made["codebook"],
        "embedding": jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
      },
    }
    chex.assert_trees_all_equal_shapes(self.variables, dict(made))

  def test_a_step_moves_codewords_that_no_point_uses(self):
    (gradient, _), result, after = train(
      self.quantizer, self.variables, self.z, weights=jnp.zeros((1, 2))
    )
    self.assertEqual(int(result.codes[0]), 0)
    self.assertAlmostEqual(float(result.loss), 0.5)
    gradient = gradient["to_codewords"]["linear"]
    np.testing.assert_allclose(gradient["kernel"], [[-1, 0], [0, 0]])
    np.testing.assert_allclose(gradient["bias"], [-1, 0])
    linear = self.variables["params"]["to_codewords"]["linear"]
    linear["kernel"] -= 0.5 * gradient["kernel"]
    found = self.quantizer.apply(self.variables, method="all_codewords")
    np.testing.assert_allclose(found, [[1.5, 0], [0, 1], [1.5, 1]])
    # The vectors stay, and how often they are used does not.
    chex.assert_trees_all_equal(
      after["codebook"],
      {
        **self.variables["codebook"],
        "cluster_size": jnp.array([1.0, 0.5, 0.5]),
      },
    )

  def test_codes_decode_to_codewords_and_not_to_vectors(self):
    linear = self.variables["params"]["to_codewords"]["linear"]
    linear["kernel"] = jnp.array([[0.0, 2.0], [3.0, 0.0]])
    linear["bias"] = jnp.array([0.0, 1.0])
    found = self.quantizer.apply(self.variables, jnp.arange(3), method="decode")
    np.testing.assert_array_equal(found, [[0, 3], [3, 1], [3, 3]])

  def test_the_first_codewords_are_as_wide_as_said(self):
    quantizer = self.quantizer.clone(codebook_size=400, embedding_dim=64)
    variables = quantizer.init(jax.random.key(0), jnp.zeros((1, 64)))
    vectors = variables["codebook"]["embedding"]
    self.assertAlmostEqual(float(vectors.std()), 64**-0.5, delta=0.01)
    linear = variables["params"]["to_codewords"]["linear"]
    codewords = quantizer.apply(variables, method="all_codewords")
    codewords -= linear["bias"][None]
    self.assertAlmostEqual(float(codewords.std()), 192**-0.5, delta=0.01)

  def test_each_stage_has_a_map(self):
    quantizer = ResidualQuantizer(
      2, 3, 2, update=FrozenUpdate(), codewords=LinearCodewords()
    )
    variables = make_variables(quantizer, self.z)
    (gradient, _), result, _ = train(quantizer, variables, self.z)
    self.assertLen(gradient, 2)
    for of_stage in jax.tree.leaves(gradient):
      self.assertGreater(jnp.abs(of_stage).max(), 0)
    found = quantizer.apply(variables, result.codes, method="decode")
    chex.assert_trees_all_equal(found, result.values)

  @parameterized.parameters(
    ({"update": "ema"}, "update is EmaUpdate.* where codewords is Linear"),
    ({"codewords": FreeCodewords()}, "codewords is Free.* update is Frozen"),
    ({"placement": Placement("data")}, "placement is .* codewords is Linear"),
    ({"placement": Placement(revive_below=0.1)}, "placement is .*codewords is"),
    (
      {"shard_codebook": True, "axis_name": "i"},
      "shard_codebook is True.* codewords is LinearCodewords",
    ),
  )
  def test_what_does_not_go_with_it(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      self.quantizer.clone(**fields).check()


class AffineCodewordsTest(parameterized.TestCase):
  def test_all_vectors_have_one_scale_and_one_offset(self):
    to_codewords = AffineCodewords(rate=2.0).make(2)
    vectors = jnp.array([[1.0, 2.0], [0.0, -1.0]])
    variables = to_codewords.init(jax.random.key(0), vectors)
    np.testing.assert_array_equal(
      to_codewords.apply(variables, vectors), vectors
    )
    variables = {
      "params": {"scale": jnp.full(2, 0.25), "offset": jnp.full(2, 0.5)}
    }
    np.testing.assert_array_equal(
      to_codewords.apply(variables, vectors), [[2.5, 4], [1, -0.5]]
    )

  def test_they_learn_by_the_codebook_term(self):
    quantizer = VectorQuantizer(
      2,
      1,
      commitment_cost=0.0,
      update=GradientUpdate(codebook_cost=0.5),
      codewords=AffineCodewords(rate=2.0),
    )
    z = jnp.array([[2.0]])
    variables = make_variables(quantizer, z)
    variables["params"]["embedding"] = jnp.array([[1.5], [-9.0]])
    (gradient, _), result, _ = train(
      quantizer, variables, z, weights=jnp.zeros((1, 1))
    )
    # 0.5 (2 - 1.5)^2, of which the codeword has the derivative -0.5.
    self.assertAlmostEqual(float(result.loss), 0.125)
    np.testing.assert_allclose(gradient["embedding"], [[-0.5], [0]])
    np.testing.assert_allclose(gradient["to_codewords"]["scale"], [-1.5])
    np.testing.assert_allclose(gradient["to_codewords"]["offset"], [-1.0])

  def test_averages_do_not_go_with_them(self):
    with self.assertRaisesRegex(
      ValueError, "update is Ema.* where codewords is Affine"
    ):
      VectorQuantizer(2, 1, codewords=AffineCodewords()).check()

  @parameterized.parameters(
    (-1, "rate is -1; it must be at least 0"), (0, "rate is 0; .* positive")
  )
  def test_the_rate_is_checked(self, rate, message):
    with self.assertRaisesRegex(ValueError, f"codewords.{message}"):
      VectorQuantizer(
        2, 1, update=GradientUpdate(), codewords=AffineCodewords(rate)
      ).check()
