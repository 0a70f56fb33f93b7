import pathlib

from absl.testing import parameterized
import chex
from flax import nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from adq_jax import AdaptiveQuantizer
from adq_jax import codebook_from
from adq_jax import Placement
from adq_jax import Quantizer
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from adq_jax.nnx import CodebookState
from adq_jax.nnx import Stateful

_WIDTH = 4
_VECTOR = VectorQuantizer(6, _WIDTH)
# It takes keys of two streams in training.
_POOL = AdaptiveQuantizer(
  ((6, 3), (5, 2)), _WIDTH, placement=Placement("data", 0.5)
)
_Z = jax.random.normal(jax.random.key(0), (2, 12, _WIDTH))


def _codebook(module):
  return jax.device_get(module.linen_variables()["codebook"])


@nnx.jit
def _call(module, z):
  return module(z)


class Autoencoder(nnx.Module):
  """What a user writes around a quantizer."""

  def __init__(self, quantizer, *, rngs):
    self.encoder = nnx.Linear(3, _WIDTH, rngs=rngs)
    self.quantizer = Stateful(quantizer, rngs=rngs)
    self.decoder = nnx.Linear(_WIDTH, 3, rngs=rngs)

  def __call__(self, x):
    result = self.quantizer(self.encoder(x))
    return ((self.decoder(result.values) - x) ** 2).mean() + result.loss


class BitsTest(parameterized.TestCase):
  def test_steps_are_those_of_linen_with_keys_of_the_same_streams(self):
    seeds = {"params": 0, "codebook": 1, "gumbel": 2, "other": 3}
    module = Stateful(_POOL, rngs=nnx.Rngs(**seeds))
    rngs = nnx.Rngs(**seeds)
    keys = {name: rngs[name]() for name in ("params", "codebook")}
    variables = jax.jit(_POOL.init)(keys, _Z[0, :1])
    chex.assert_trees_all_equal(module.linen_variables(), variables)
    rngs = nnx.Rngs(gumbel=rngs.gumbel(), codebook=rngs.codebook())
    step = jax.jit(
      lambda v, z, keys: _POOL.apply(
        v, z, train=True, mutable=["codebook"], rngs=keys
      )
    )
    for z in _Z:
      keys = {name: rngs[name]() for name in ("gumbel", "codebook")}
      expected, state = step(variables, z, keys)
      variables = {**variables, **state}
      result = _call(module, z)
      chex.assert_trees_all_equal(result, expected)
      chex.assert_trees_all_equal(module.linen_variables(), variables)

  def test_one_seed_is_enough(self):
    rngs = nnx.Rngs(0)
    module = Stateful(_POOL, rngs=rngs)
    variables = jax.jit(_POOL.init)(nnx.Rngs(0)(), _Z[0, :1])
    chex.assert_trees_all_equal(module.linen_variables(), variables)
    self.assertSameElements(module.rngs, ["gumbel", "codebook"])
    self.assertEmpty(nnx.state(Stateful(_VECTOR, rngs=rngs), nnx.RngState))

  def test_a_model_encodes_and_decodes(self):
    linen = VQVAE(VectorQuantizer(6, 4, 8), network="cnn", features=8)
    module = Stateful(linen, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))

    @nnx.jit
    def everything(module, images):
      codes = module.encode(images)
      result = module(images, mask=jnp.ones(2), train=False)
      return result, codes, module.decode(codes)

    result, codes, decoded = everything(module, images)
    chex.assert_trees_all_equal(codes, result.quantized.codes)
    chex.assert_trees_all_close(decoded, result.images, rtol=1e-5, atol=1e-6)
    chex.assert_shape(result.squared_error, (2,))


class ModesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.model = Autoencoder(_POOL, rngs=nnx.Rngs(0))
    self.module = self.model.quantizer

  def is_moved_by(self, call):
    before = _codebook(self.module)
    call()
    after = _codebook(self.module)
    same = jax.tree.leaves(jax.tree.map(np.array_equal, before, after))
    return not all(same)

  def test_train_and_eval_of_an_outer_module_say_whether_it_moves(self):
    self.assertTrue(self.is_moved_by(lambda: _call(self.module, _Z[0])))
    self.model.eval()
    self.assertFalse(self.is_moved_by(lambda: _call(self.module, _Z[0])))
    viewed = nnx.view(
      self.module, use_running_average=False, deterministic=False
    )
    self.assertEqual(viewed.use_running_average, False)
    self.assertEqual(viewed.deterministic, False)
    self.assertEqual(self.module.use_running_average, True)
    self.model.train()
    self.assertTrue(self.is_moved_by(lambda: _call(self.module, _Z[0])))

  def test_an_argument_says_it_for_a_call(self):
    call = nnx.jit(
      lambda module, z, train: module(z, train=train), static_argnames="train"
    )
    self.assertFalse(
      self.is_moved_by(lambda: call(self.module, _Z[0], train=False))
    )
    self.model.eval()
    self.assertTrue(
      self.is_moved_by(lambda: call(self.module, _Z[0], train=True))
    )

  def test_a_codebook_may_rest_while_codes_are_sampled(self):
    self.model.set_attributes(use_running_average=True)
    results = [_call(self.module, _Z[0]) for _ in range(2)]
    self.assertTrue((results[0].codes.book != results[1].codes.book).any())
    self.model.set_attributes(deterministic=True)
    expected = nnx.jit(lambda module, z: module.encode(z))(self.module, _Z[0])
    chex.assert_trees_all_equal(_call(self.module, _Z[0]).codes, expected)


class TransformationsTest(parameterized.TestCase):
  def test_an_optimizer_moves_parameters_and_training_the_codebook(self):
    model = Autoencoder(_VECTOR, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
    graphdef, params, codebook = nnx.split(model, nnx.Param, CodebookState)
    self.assertLen(jax.tree.leaves(codebook), 4)

    @nnx.jit
    def step(model, optimizer, x):
      loss, gradient = nnx.value_and_grad(lambda model: model(x))(model)
      optimizer.update(model, gradient)
      return loss, gradient

    x = jax.random.normal(jax.random.key(1), (64, 3))
    before = jax.device_get((params, codebook))
    loss, gradient = step(model, optimizer, x)
    chex.assert_trees_all_equal_structs(gradient, params)
    _, *after = nnx.split(model, nnx.Param, CodebookState)
    for old, new in zip(before, jax.device_get(after), strict=True):
      same = jax.tree.map(np.array_equal, old, new)
      self.assertFalse(all(jax.tree.leaves(same)))
    for _ in range(20):
      last, _ = step(model, optimizer, x)
    self.assertLess(last, loss)

  def test_stacked_layers_are_mapped_and_scanned(self):
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
      return Stateful(_POOL, rngs=rngs)

    layers = make(nnx.Rngs(0))
    one_by_one = make(nnx.Rngs(0))
    embedding = _codebook(layers)["codebooks_0"]["embedding"]
    chex.assert_shape(embedding, (2, 6, 3))
    self.assertTrue((embedding[0] != embedding[1]).any())
    graphdef, state = nnx.split(one_by_one)
    singles = [
      nnx.merge(graphdef, jax.tree.map(lambda x, i=i: x[i], state))
      for i in range(2)
    ]

    mapped = nnx.jit(nnx.vmap(lambda layer, z: layer(z)))(layers, _Z)
    for i, single in enumerate(singles):
      expected = _call(single, _Z[i])
      own = jax.tree.map(lambda x, i=i: x[i], mapped)
      chex.assert_trees_all_close(own, expected, rtol=1e-5, atol=1e-6)

    @nnx.jit
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
    def scanned(layer, z):
      result = layer(z)
      return z - result.values, result.codes

    rest, _ = scanned(layers, _Z[0])
    expected = _Z[0]
    for single in singles:
      expected = expected - _call(single, expected).values
    chex.assert_trees_all_close(rest, expected, rtol=1e-5, atol=1e-6)
    for i, single in enumerate(singles):
      chex.assert_trees_all_close(
        jax.tree.map(lambda x, i=i: x[i], _codebook(layers)),
        _codebook(single),
        rtol=1e-5,
        atol=1e-6,
      )

  def test_orbax_saves_and_restores_it(self):
    module = Stateful(_POOL, rngs=nnx.Rngs(0))
    _call(module, _Z[0])
    path = pathlib.Path(self.create_tempdir()) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path, nnx.state(module))
      checkpointer.wait_until_finished()
      abstract = nnx.eval_shape(lambda: Stateful(_POOL, rngs=nnx.Rngs(1)))
      graphdef, state = nnx.split(abstract)
      restored = nnx.merge(graphdef, checkpointer.restore(path, state))
    chex.assert_trees_all_equal(_call(restored, _Z[1]), _call(module, _Z[1]))
    chex.assert_trees_all_equal(_codebook(restored), _codebook(module))


class VariablesTest(parameterized.TestCase):
  def test_codewords_may_come_from_elsewhere(self):
    module = Stateful(_VECTOR, rngs=nnx.Rngs(0))
    embedding = np.arange(24, dtype=np.float32).reshape(6, 4)
    module.set_variables({"codebook": codebook_from(embedding).to_collection()})
    found = module.variables["codebook"]["embedding"]
    self.assertIsInstance(found, CodebookState)
    np.testing.assert_array_equal(found[...], embedding)
    with self.assertRaisesRegex(ValueError, "variables has 'codebook/bias'"):
      module.set_variables({"codebook": {"bias": jnp.zeros(6)}})

  def test_several_batches_are_one_update(self):
    module = Stateful(_VECTOR, rngs=nnx.Rngs(0))
    whole = nnx.clone(module)
    _call(whole, _Z.reshape(-1, _WIDTH))
    before = module.linen_variables()
    total = None
    for z in _Z:
      statistics = _call(module, z).statistics
      module.set_variables(before)
      total = (
        statistics
        if total is None
        else jax.tree.map(jnp.add, total, statistics)
      )
    module.update_codebook(total)
    chex.assert_trees_all_close(_codebook(module), _codebook(whole), rtol=1e-5)


class BridgeTest(parameterized.TestCase):
  def test_to_nnx_works_too(self):
    quantizer = VectorQuantizer(6, 3, _WIDTH)
    z = _Z[0]
    module = nnx.bridge.ToNNX(quantizer, rngs=nnx.Rngs(0)).lazy_init(z)
    before = jax.device_get(module.cluster_size[...])
    self.assertIsInstance(module.embedding, CodebookState)
    self.assertIsInstance(module.project_in["kernel"], nnx.Param)
    module(z)
    np.testing.assert_array_equal(module.cluster_size[...], before)
    result = module(z, train=True, mutable=["codebook"])
    self.assertTrue((module.cluster_size[...] != before).any())
    self.assertGreater(result.loss, 0)
    codes = module(z, method="encode")
    values = module(codes, method="decode")
    chex.assert_trees_all_equal(values, module(z).values)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    (nn.Dense(3), nnx.Rngs(0), "linen is Dense"),
    (_VECTOR, 0, "rngs is 0; it must be an nnx.Rngs"),
    (_VECTOR, nnx.Rngs(codebook=0), r"streams \['codebook'\].*\"params\""),
    (VectorQuantizer(0, 4), nnx.Rngs(0), "codebook_size is 0"),
    (_VECTOR.clone(train=True), nnx.Rngs(0), "the field train=True"),
    (
      VQVAE(_VECTOR.clone(train=False), features=4),
      nnx.Rngs(0),
      "the field train=False",
    ),
  )
  def test_what_does_not_fit_is_named(self, linen, rngs, message):
    with self.assertRaisesRegex(ValueError, message):
      Stateful(linen, rngs=rngs)

  def test_a_stream_that_is_missing_is_named_and_may_be_given(self):
    module = Stateful(_POOL, rngs=nnx.Rngs(params=0))
    before = _codebook(module)
    with self.assertRaisesRegex(ValueError, 'rng stream "codebook" is missing'):
      nnx.eval_shape(_call, module, _Z[0])
    with self.assertRaisesRegex(ValueError, "z has shape .* must be 4"):
      nnx.eval_shape(_call, module, _Z[0, :, :3])
    chex.assert_trees_all_equal(_codebook(module), before)
    keys = {"gumbel": jax.random.key(1), "codebook": jax.random.key(2)}
    nnx.eval_shape(lambda module, z: module(z, rngs=keys), module, _Z[0])
    nnx.eval_shape(lambda m, z: m(z, rngs=nnx.Rngs(0)), module, _Z[0])

  def test_a_quantizer_that_says_no_shape_is_named(self):
    class Bare(Quantizer):
      """A quantizer that defines nothing."""

    with self.assertRaisesRegex(NotImplementedError, "Bare.example_shape"):
      Stateful(Bare(), rngs=nnx.Rngs(0))
