import re

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import CodedPrice
from adq_jax import Cosine
from adq_jax import merge_codebook
from adq_jax import nearest_codes
from adq_jax import NominalPrice
from adq_jax import split_codebook
from adq_jax import VectorQuantizer
from tests.support.small import bits

pytestmark = pytest.mark.usefixtures("without_kept_programs")
NUM_DEVICES = 8
KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


def train(quantizer, variables, z, mask, key, rate_weight=None):
  result, state = quantizer.apply(
    variables,
    z,
    train=True,
    mask=mask,
    rate_weight=rate_weight,
    mutable=["codebook"],
    rngs={"codebook": key},
  )
  return result, state["codebook"]


class QuantizerTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.one = VectorQuantizer(48, 3, decay=0.8)
    self.many = self.one.clone(axis_name="devices", shard_codebook=True)
    self.state = self.one.init(KEYS, jnp.ones((1, 3)))["codebook"]

  def both(self, num_steps=4, masked=False, whole_numbers=False, **fields):
    """Yields results and states of training on one and on eight devices."""
    one, many = self.one.clone(**fields), self.many.clone(**fields)
    state = one.init(KEYS, jnp.ones((1, 3)))["codebook"]
    shards = split_codebook(state, NUM_DEVICES)
    single = jax.jit(lambda c, *args: train(one, {"codebook": c}, *args))
    parallel = jax.pmap(
      lambda c, *args: train(many, {"codebook": c}, *args),
      "devices",
      in_axes=(0, 0, 0, None, 0),
    )
    for step in range(num_steps):
      key = jax.random.key(step)
      z = 3 * jax.random.normal(key, (40, 3, 3)) + step
      mask = jnp.ones((40, 3))
      if masked:  # unevenly over devices
        mask = mask.at[21:].set(0)
        z = z.at[21:].set(jnp.nan)
      weight = jnp.geomspace(1e-3, 3.0, 40)  # of little use without a price
      *batch, weights = (
        x.reshape(NUM_DEVICES, 5, *x.shape[1:]) for x in (z, mask, weight)
      )
      result, state = single(state, z, mask, key, weight)
      sharded, shards = parallel(shards, *batch, key, weights)
      yield (result, state), (sharded, shards)

  @parameterized.parameters(
    ({}, False),
    ({}, True),
    ({"codebook_init": "kmeans", "revive_below": 0.5}, False),
    ({"codebook_init": "data", "revive_below": 0.5}, True),
    ({"update": "smoothed_ema"}, False),
    (
      {
        "similarity": Cosine(),
        "codebook_init": "kmeans",
        "revive_below": 0.5,
      },
      True,
    ),
    ({"price": CodedPrice(), "codebook_init": "data"}, True),
    ({"price": NominalPrice()}, False),
  )
  def test_training_is_that_of_one_device_to_the_bit(self, fields, masked):
    for (result, state), (sharded, shards) in self.both(
      masked=masked, **fields
    ):
      chex.assert_shape(shards["embedding"], (NUM_DEVICES, 6, 3))
      real = slice(21 if masked else 40)
      for name in ("codes", "values"):
        got = getattr(sharded, name).reshape(getattr(result, name).shape)
        chex.assert_trees_all_equal(
          bits(got[real]), bits(getattr(result, name)[real])
        )
      chex.assert_trees_all_equal(
        jax.tree.map(bits, merge_codebook(shards)), jax.tree.map(bits, state)
      )
      chex.assert_trees_all_close(sharded.loss.mean(), result.loss, rtol=1e-5)
      for device in range(NUM_DEVICES):
        chex.assert_trees_all_close(
          jax.tree.map(lambda x, i=device: x[i], sharded.metrics),
          result.metrics,
          rtol=1e-5,
        )

  @parameterized.parameters(False, True)
  def test_training_is_that_of_an_unsharded_one_on_eight_devices(self, whole):
    unsharded = jax.pmap(
      lambda c, z: train(
        self.one.clone(axis_name="devices"),
        {"codebook": c},
        z,
        None,
        jax.random.key(0),
      ),
      "devices",
    )
    sharded = jax.pmap(
      lambda c, z: train(
        self.many, {"codebook": c}, z, None, jax.random.key(0)
      ),
      "devices",
    )
    z = 4 * jax.random.normal(jax.random.key(2), (NUM_DEVICES, 9, 3))
    z = jnp.round(z) if whole else z
    replicas = jax.tree.map(lambda x: jnp.stack([x] * NUM_DEVICES), self.state)
    expected, states = unsharded(replicas, z)
    result, shards = sharded(split_codebook(self.state, NUM_DEVICES), z)
    chex.assert_trees_all_equal(result.codes, expected.codes)
    chex.assert_trees_all_equal(result.values, expected.values)
    state = jax.tree.map(lambda x: x[0], states)
    if whole:  # sums that are not rounded do not depend on their order
      chex.assert_trees_all_equal(merge_codebook(shards), state)
    else:
      chex.assert_trees_all_close(
        merge_codebook(shards), state, rtol=1e-6, atol=1e-6
      )

  def test_codes_decode_to_the_evaluation_output(self):
    shards = split_codebook(self.state, NUM_DEVICES)
    z = jax.random.normal(jax.random.key(2), (NUM_DEVICES, 5, 3))

    def evaluate(state, z):
      variables = {"codebook": state}
      result, after = self.many.apply(variables, z, mutable=["codebook"])
      codes = self.many.apply(variables, z, method="encode")
      wrong = jnp.concatenate([codes, jnp.array([-1, 48, 47])])
      values = self.many.apply(variables, wrong, method="decode")
      return result, after["codebook"], codes, values

    result, after, codes, values = jax.pmap(evaluate, "devices")(shards, z)
    chex.assert_trees_all_equal(codes, result.codes)
    chex.assert_trees_all_equal(
      codes, nearest_codes(z, self.state["embedding"])
    )
    chex.assert_trees_all_equal(values[:, :5], result.values)
    self.assertTrue(jnp.isnan(values[:, 5:7]).all())
    chex.assert_trees_all_equal(
      values[:, 7], jnp.tile(self.state["embedding"][47], (NUM_DEVICES, 1))
    )
    chex.assert_trees_all_equal(after, shards)  # evaluation changes nothing

  def test_codes_and_their_bits_are_those_of_whole_tables(self):
    one = self.one.clone(price=CodedPrice())
    many = self.many.clone(price=CodedPrice())
    rng = np.random.default_rng(0)
    sizes = jnp.asarray(rng.uniform(0.01, 9, 48), jnp.float32)
    state = {**self.state, "cluster_size": sizes}
    tables = {
      "prices": np.array([0.01, 1.0], np.float32),
      "index": rng.uniform(0.1, 9, (2, 48)).astype(np.float32),
    }
    z = jax.random.normal(jax.random.key(2), (NUM_DEVICES, 5, 3))
    weight = jnp.geomspace(1e-3, 3.0, 40).reshape(NUM_DEVICES, 5)

    def evaluate(quantizer, variables, z, weight):
      result = quantizer.apply(variables, z, rate_weight=weight)
      codes = quantizer.apply(variables, z, rate_weight=weight, method="encode")
      return result, codes

    parallel = jax.pmap(
      lambda state, *args: [
        evaluate(many, {"codebook": state, **given}, *args)
        for given in ({}, {"rates": tables})
      ],
      "devices",
    )
    found = parallel(split_codebook(state, NUM_DEVICES), z, weight)
    single = jax.jit(evaluate, static_argnums=0)
    flat = z.reshape(40, 3), weight.reshape(40)
    for (result, codes), given in zip(
      found, ({}, {"rates": tables}), strict=True
    ):
      expected, _ = single(one, {"codebook": state, **given}, *flat)
      for own in (result.codes, codes):
        chex.assert_trees_all_equal(own.reshape(40), expected.codes)
      chex.assert_trees_all_equal(result.values.reshape(40, 3), expected.values)
      np.testing.assert_allclose(
        result.metrics["rate"].mean(), expected.metrics["rate"], rtol=1e-5
      )
    # The tables decide.
    self.assertTrue((found[0][1] != found[1][1]).any())

  def test_gradients_are_those_of_the_unsharded(self):
    z = jax.random.normal(jax.random.key(2), (NUM_DEVICES, 5, 3))

    def gradient(quantizer, state, z):
      def loss(z):
        result, _ = train(
          quantizer, {"codebook": state}, z, None, jax.random.key(0)
        )
        return result.loss + (result.values**2).sum()

      return jax.grad(loss)(z)

    shards = split_codebook(self.state, NUM_DEVICES)
    sharded = jax.pmap(lambda *args: gradient(self.many, *args), "devices")
    expected = jax.vmap(lambda z: gradient(self.one, self.state, z))(z)
    chex.assert_trees_all_close(sharded(shards, z), expected, rtol=1e-5)

  def test_no_device_holds_the_codebook_or_all_distances(self):
    quantizer = self.many.clone(
      codebook_size=2**13, codebook_init="data", revive_below=0.1
    )
    num_codes, t = 2**10, 16
    shapes = {
      "embedding": (num_codes, 3),
      "cluster_size": (num_codes,),
      "embedding_sum": (num_codes, 3),
      "initialized": (),
    }
    arguments = [
      {
        name: jax.ShapeDtypeStruct(
          (NUM_DEVICES, *shape), bool if not shape else jnp.float32
        )
        for name, shape in shapes.items()
      },
      jax.ShapeDtypeStruct((NUM_DEVICES, t, 3), jnp.float32),
    ]
    program = (
      jax.pmap(
        lambda c, z: train(
          quantizer, {"codebook": c}, z, None, jax.random.key(0)
        ),
        "devices",
      )
      .lower(*arguments)
      .compile()
      .as_text()
    )
    found = re.findall(r"[a-z]+\d+\[([\d,]+)\]", program)
    sizes = [np.prod([int(n) for n in dims.split(",")]) for dims in found]
    # 128 distances for each of 128 points; the codebook has 24,576 numbers.
    self.assertLessEqual(max(sizes), 2**14 + 2**12)


class ShardsTest(parameterized.TestCase):
  def test_shards_are_made_where_they_stay_with_the_same_bits(self):
    quantizer = VectorQuantizer(
      1000, 3, axis_name="devices", shard_codebook=True
    )

    def init():
      state = quantizer.init(KEYS, jnp.ones((1, 3)))["codebook"]
      return split_codebook(state, NUM_DEVICES)

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
    over_devices = jax.NamedSharding(mesh, jax.P("devices"))
    made = jax.jit(init, out_shardings=over_devices)
    self.assertNotRegex(made.lower().compile().as_text(), r"f32\[(8,125|1000)")
    # Jitted alike: compiled functions may round as single operations do not.
    chex.assert_trees_all_equal(made(), jax.jit(init)())
    unsharded = jax.jit(VectorQuantizer(1000, 3).init)(KEYS, jnp.ones((1, 3)))
    chex.assert_trees_all_equal(merge_codebook(made()), unsharded["codebook"])


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({}, "shard_codebook is True.*without axis_name"),
    (
      {"axis_name": "d", "update": "gradient"},
      "must be False where update is GradientUpdate",
    ),
  )
  def test_fields(self, fields, message):
    quantizer = VectorQuantizer(8, 3, shard_codebook=True, **fields)
    with self.assertRaisesRegex(ValueError, message):
      quantizer.init(KEYS, jnp.ones((1, 3)))

  def test_tables_of_a_shard_are_refused(self):
    quantizer = VectorQuantizer(
      16, 3, price=CodedPrice(), axis_name="devices", shard_codebook=True
    )
    z = jnp.ones((NUM_DEVICES, 1, 3))
    state = quantizer.init(KEYS, z[0])["codebook"]
    tables = {"prices": jnp.ones(1), "index": jnp.ones((1, 2))}
    with self.assertRaisesRegex(
      ValueError, r'index in the .* "rates" has shape \(1, 2\); .*\(1, 16\)'
    ):
      jax.pmap(
        lambda state, z: quantizer.apply(
          {"codebook": state, "rates": tables}, z, rate_weight=1.0
        ),
        "devices",
      )(split_codebook(state, NUM_DEVICES), z)

  def test_shards_that_do_not_fit_the_devices(self):
    quantizer = VectorQuantizer(12, 3, shard_codebook=True, axis_name="devices")
    variables = quantizer.init(KEYS, jnp.ones((1, 3)))
    with self.assertRaisesRegex(ValueError, "codebook_size is 12.*devices, 8"):
      split_codebook(variables, NUM_DEVICES)
    with self.assertRaisesRegex(
      ValueError, "is 'devices', which .* merge_codebook"
    ):
      quantizer.apply(variables, jnp.ones((1, 3)))
    z = jnp.ones((NUM_DEVICES, 1, 3))

    def apply(shards, devices):
      return jax.pmap(
        lambda v, z: quantizer.apply(v, z).codes, "devices", devices=devices
      )(shards, z[: len(devices)])

    replicas = jax.tree.map(lambda x: jnp.stack([x] * 8), variables)
    with self.assertRaisesRegex(ValueError, "codebook_size is 12.*devices, 8"):
      apply(replicas, jax.devices())
    with self.assertRaisesRegex(ValueError, r"embedding has shape \(12, 3\)"):
      apply(jax.tree.map(lambda x: x[:2], replicas), jax.devices()[:2])
