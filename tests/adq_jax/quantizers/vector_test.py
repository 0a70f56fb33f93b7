from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import EmaUpdate
from adq_jax import GradientUpdate
from adq_jax import nearest_codes
from adq_jax import VectorQuantizer

UPDATES = ("ema", "gradient")
KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


def make(features=None, shape=(2, 4, 4), **kwargs):
  width = features or 3
  z = jax.random.normal(jax.random.key(2), (*shape, width))
  quantizer = VectorQuantizer(10, 3, features=features, **kwargs)
  return quantizer, jax.jit(quantizer.init)(KEYS, z), z


def train(quantizer, variables, z, **kwargs):
  return quantizer.apply(
    variables,
    z,
    train=True,
    mutable=["codebook"],
    rngs={"codebook": jax.random.key(3)},
    **kwargs,
  )


class VectorQuantizerTest(parameterized.TestCase):
  @parameterized.product(update=UPDATES, features=(None, 3, 5))
  def test_shapes_and_variables(self, update, features):
    quantizer, variables, z = make(features, update=update)
    result = quantizer.apply(variables, z)
    chex.assert_equal_shape([result.values, z])
    chex.assert_shape(result.codes, z.shape[:-1])
    chex.assert_type(result.codes, jnp.int32)
    chex.assert_shape(result.loss, ())
    state = variables["codebook"]
    params = variables.get("params", {})
    if update == "ema":
      chex.assert_shape(state["embedding"], (10, 3))
      chex.assert_shape(state["embedding_sum"], (10, 3))
      chex.assert_shape(state["initialized"], ())
    else:
      self.assertEqual(set(state), {"cluster_size"})
      chex.assert_shape(params["embedding"], (10, 3))
    chex.assert_shape(state["cluster_size"], (10,))
    # Projections always, also from 3 to 3, unless there are no features.
    self.assertEqual("project_in" in params, features is not None)

  def test_values_are_the_nearest_codewords_to_the_bit(self):
    quantizer, variables, z = make()
    result = quantizer.apply(variables, z)
    embedding = variables["codebook"]["embedding"]
    chex.assert_trees_all_equal(result.codes, nearest_codes(z, embedding))
    chex.assert_trees_all_equal(result.values, embedding[result.codes])

  def test_a_code_out_of_range_decodes_to_nan(self):
    quantizer, variables, _ = make()
    values = quantizer.apply(variables, jnp.array([-1, 9, 10]), method="decode")
    chex.assert_trees_all_equal(
      jnp.isnan(values).all(axis=-1), jnp.array([True, False, True])
    )

  def test_training_quantizes_with_the_old_codewords(self):
    quantizer, variables, z = make()
    evaluated = quantizer.apply(variables, z)
    trained, after = train(quantizer, variables, z)
    chex.assert_trees_all_equal(trained.codes, evaluated.codes)
    chex.assert_trees_all_equal(trained.values, evaluated.values)
    moved = after["codebook"]["embedding"] - variables["codebook"]["embedding"]
    self.assertGreater(jnp.abs(moved).max(), 0)

  def test_training_is_the_ema_of_its_points(self):
    quantizer, variables, z = make(decay=0.8)
    result, after = train(quantizer, variables, z)
    points, codes = np.asarray(z).reshape(-1, 3), np.asarray(result.codes)
    old = np.asarray(variables["codebook"]["embedding"], np.float64)
    for n in range(10):
      chosen = points[codes.reshape(-1) == n].astype(np.float64)
      size = 0.8 + 0.2 * len(chosen)
      total = 0.8 * old[n] + 0.2 * chosen.sum(axis=0)
      expected = total / size if len(chosen) else old[n]
      state = jax.tree.map(np.asarray, after["codebook"])
      chex.assert_trees_all_close(state["embedding"][n], expected, rtol=1e-5)
      chex.assert_trees_all_close(state["cluster_size"][n], size, rtol=1e-5)

  @parameterized.parameters(*UPDATES)
  def test_loss_terms(self, update):
    quantizer, variables, z = make(update=update, commitment_cost=0.5)
    result = quantizer.apply(variables, z)
    error = np.square(np.asarray(z) - np.asarray(result.values)).mean()
    factor = 0.5 if update == "ema" else 1.5
    chex.assert_trees_all_close(result.loss, factor * error, rtol=1e-6)
    chex.assert_trees_all_close(
      result.metrics["quantization_error"], error, rtol=1e-6
    )

  @parameterized.parameters(*UPDATES)
  def test_which_parameters_the_loss_trains(self, update):
    quantizer, variables, z = make(5, update=update)

    def gradient(term):
      def loss(params, z):
        result = quantizer.apply({**variables, "params": params}, z)
        return result.loss if term == "loss" else jnp.sum(result.values**2)

      params, z_gradient = jax.grad(loss, (0, 1))(variables["params"], z)
      return jax.tree.map(lambda g: bool((g != 0).any()), (params, z_gradient))

    params, reaches_z = gradient("loss")
    self.assertTrue(reaches_z)  # commitment
    self.assertTrue(params["project_in"]["kernel"])
    self.assertFalse(params["project_out"]["kernel"])
    self.assertEqual(params.get("embedding", False), update == "gradient")
    params, reaches_z = gradient("values")
    self.assertTrue(reaches_z)  # straight-through
    self.assertTrue(params["project_in"]["kernel"])
    self.assertTrue(params["project_out"]["kernel"])
    self.assertFalse(params.get("embedding", False))

  def test_terms_of_the_gradient_rule_pull_apart(self):
    quantizer, variables, z = make(update="gradient", commitment_cost=0.25)

    def loss(embedding, z):
      return quantizer.apply(
        {**variables, "params": {"embedding": embedding}}, z
      ).loss

    embedding = variables["params"]["embedding"]
    to_codewords, to_z = jax.grad(loss, (0, 1))(embedding, z)
    codes = quantizer.apply(variables, z).codes
    towards_z = 2 * (z - embedding[codes]) / z.size
    chex.assert_trees_all_close(to_z, 0.25 * towards_z, rtol=1e-5, atol=1e-8)
    expected = jnp.zeros((10, 3)).at[codes].add(-towards_z)
    chex.assert_trees_all_close(to_codewords, expected, rtol=1e-4, atol=1e-7)

  def test_straight_through_gradient_is_that_of_the_output(self):
    quantizer, variables, z = make()
    weights = jax.random.normal(jax.random.key(5), z.shape)
    gradient = jax.grad(
      lambda z: jnp.sum(weights * quantizer.apply(variables, z).values)
    )(z)
    chex.assert_trees_all_equal(gradient, weights)

  def test_gradient_rule_counts_use_and_nothing_else(self):
    quantizer, variables, z = make(update="gradient", decay=0.9)
    result, after = train(quantizer, variables, z)
    counts = np.bincount(np.asarray(result.codes).reshape(-1), minlength=10)
    chex.assert_trees_all_close(
      after["codebook"], {"cluster_size": 0.9 + 0.1 * counts}, rtol=1e-5
    )

  def test_metrics_of_the_batch(self):
    quantizer, variables, _ = make(shape=(4,))
    codewords = variables["codebook"]["embedding"]
    z = codewords[jnp.array([3, 3, 5, 7])]
    metrics = quantizer.apply(variables, z).metrics
    self.assertEqual(metrics["quantization_error"], 0)
    chex.assert_trees_all_close(metrics["perplexity"], 2**1.5, rtol=1e-6)
    chex.assert_trees_all_close(metrics["usage"], 0.3, rtol=1e-6)

  def test_data_initialization_happens_at_the_first_training_step(self):
    quantizer, variables, z = make(codebook_init="data", decay=0.0)
    self.assertFalse(variables["codebook"]["initialized"])
    z += 50.0
    result, after = train(quantizer, variables, z)
    self.assertTrue(after["codebook"]["initialized"])
    # The step's own points are quantized with the new codewords.
    self.assertLess(result.metrics["quantization_error"], 10)
    self.assertGreater(after["codebook"]["embedding"].min(), 40)
    result, _ = train(quantizer, {**variables, **after}, z + 50)
    self.assertGreater(result.metrics["quantization_error"], 1000)

  def test_one_key_initializes(self):
    quantizer, _, z = make(5)
    quantizer.init(jax.random.key(0), z)


class ErrorsTest(parameterized.TestCase):
  def test_inputs(self):
    quantizer, variables, z = make(5)
    for bad, message in (
      (z[..., :3], "last axis must be 5, the quantizer's features"),
      (z.astype(jnp.int32), "z has dtype int32"),
      (jnp.float32(1), r"z has shape \(\)"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        quantizer.apply(variables, bad)
      with self.assertRaisesRegex(ValueError, message):
        quantizer.apply(variables, bad, method="encode")
    with self.assertRaisesRegex(ValueError, r"mask has shape \(2,\)"):
      quantizer.apply(variables, z, mask=jnp.ones(2))
    with self.assertRaisesRegex(ValueError, "codes has dtype float32"):
      quantizer.apply(variables, z, method="decode")

  @parameterized.parameters(
    ({"codebook_size": 0}, "codebook_size is 0"),
    ({"embedding_dim": 0}, "embedding_dim is 0"),
    ({"features": 0}, "features is 0"),
    ({"decay": 1.0}, "update.decay is 1.0"),
    ({"commitment_cost": -1.0}, "commitment_cost is -1.0"),
    (
      {"update": GradientUpdate(codebook_cost=-1)},
      "update.codebook_cost is -1",
    ),
    ({"revive_below": -1.0}, "placement.revive_below is -1.0"),
    ({"update": "adam"}, "update is 'adam'"),
    ({"codebook_init": "zeros"}, "placement.init is 'zeros'"),
    ({"update": "smoothed_ema", "revive_below": 0.1}, "must be an EmaUpdate"),
    (
      {"update": EmaUpdate},
      "update is .*it must be an AbstractUpdate",
    ),
    ({"placement": "data"}, "placement is 'data'; it must be an Abstract"),
    ({"estimator": None}, "estimator is None; it must be an AbstractEst"),
    ({"codewords": 10}, "codewords is 10; it must be an AbstractCodewords"),
    ({"output_kernel": 3}, "output_kernel is 3; without features"),
    ({"output_kernel": 2, "features": 4}, "output_kernel is 2.*odd"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      VectorQuantizer(
        **{"codebook_size": 10, "embedding_dim": 3, **fields}
      ).init(KEYS, jnp.ones((2, 3)))

  def test_training_needs_a_mutable_collection(self):
    quantizer, variables, z = make()
    with self.assertRaisesRegex(ValueError, r'mutable=\["codebook"\]'):
      quantizer.apply(variables, z, train=True)

  @parameterized.parameters({"codebook_init": "data"}, {"revive_below": 0.1})
  def test_placing_codewords_needs_a_stream(self, **fields):
    quantizer, variables, z = make(**fields)
    with self.assertRaisesRegex(ValueError, r'rngs={"codebook": key}'):
      quantizer.apply(variables, z, train=True, mutable=["codebook"])


class DevicesTest(parameterized.TestCase):
  def test_eight_devices_place_codewords_as_one_does(self):
    z = jax.random.normal(jax.random.key(2), (3, 16, 4, 5))
    # Unevenly over devices.
    mask = jnp.ones((3, 16, 4)).at[:, 9:].set(0)
    one = VectorQuantizer(
      40, 3, features=5, codebook_init="data", revive_below=0.5
    )
    many = one.clone(axis_name="devices")
    variables = one.init(KEYS, z[0])

    def run(quantizer, variables, z, mask, key):
      def loss(params):
        result, after = quantizer.apply(
          {**variables, "params": params},
          z,
          train=True,
          mask=mask,
          mutable=["codebook"],
          rngs={"codebook": key},
        )
        return result.loss + jnp.where(
          mask[..., None] > 0, result.values, 0
        ).sum() / 36, (result, after)

      (_, (result, after)), gradient = jax.value_and_grad(loss, has_aux=True)(
        variables["params"]
      )
      return result.loss, result.metrics, gradient, after["codebook"]

    shards = jax.tree.map(lambda x: jnp.stack([x] * 8), variables)
    parallel = jax.pmap(
      lambda *args: run(many, *args), "devices", in_axes=(0, 0, 0, None)
    )
    single = jax.jit(lambda *args: run(one, *args))
    for step in range(3):
      key = jax.random.key(step)
      loss, metrics, _, state = single(variables, z[step], mask[step], key)
      losses, all_metrics, _, states = parallel(
        shards,
        z[step].reshape(8, 2, 4, 5),
        mask[step].reshape(8, 2, 4),
        key,
      )
      for replica in range(1, 8):
        chex.assert_trees_all_equal(
          jax.tree.map(lambda x: x[0], states),
          jax.tree.map(lambda x, r=replica: x[r], states),
        )
      chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[0], states), state, rtol=1e-4, atol=1e-5
      )
      chex.assert_trees_all_close(losses.mean(), loss, rtol=1e-4)
      chex.assert_trees_all_close(
        jax.tree.map(lambda x: x[0], all_metrics), metrics, rtol=1e-4
      )
      variables = {**variables, "codebook": state}
      shards = {**shards, "codebook": states}

  def test_only_training_needs_the_axis(self):
    quantizer, variables, z = make(axis_name="devices")
    quantizer.apply(variables, z)
    quantizer.init(KEYS, z, train=True)
