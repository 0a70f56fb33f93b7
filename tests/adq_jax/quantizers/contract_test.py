"""What every quantizer keeps: a new one adds a row to `CASES`.

Each test is a property of all quantizers; numbers of one have test files of
their own.  Tests of a case share what is compiled of it.
"""

import contextlib
import dataclasses
import math
import re

import chex
from flax import nnx
import flax.linen as nn
import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax.nnx import Stateful
from tests.support import pages
from tests.support.cases import CASES
from tests.support.cases import one_of_each_class
from tests.support.small import bits
from tests.support.small import make_variables
from tests.support.small import RNGS
from tests.support.subject import Case
from tests.support.subject import GRID
from tests.support.subject import STATE
from tests.support.subject import Subject
from tests.support.ways import by_shard_map
from tests.support.ways import trace_on_mesh
from tests.support.ways import WAYS

GARBAGE = (np.nan, np.inf, -np.inf, 3e38, 1e6)


# Pytest puts the tests of a case together, so that it is compiled once.
@pytest.fixture(name="subject", scope="module", params=CASES)
def make_subject(request):
  return Subject(CASES[request.param])


# For what does not depend on what is in a quantizer's slots.
for_each_class = pytest.mark.parametrize(
  "subject", one_of_each_class(), indirect=True
)


def test_evaluation_gives_what_its_codes_decode_to(subject):
  z = subject.z.at[0, 0, 0].set(np.nan).at[2, 1, 0, 0].set(np.inf)
  z = z.at[2, 2, 2].set(-np.inf).at[0, 3, 3].set(3e38)
  negative = jax.tree.map(
    lambda x: x * jnp.where(x < 0, -0.0, 1.0) if x.ndim else x, subject.state()
  )
  *_, trained = subject.trained(subject.z)
  for variables in (
    subject.variables,
    trained,
    {**subject.variables, **negative},
  ):
    result, _ = subject.evaluate(variables, z)
    codes = subject.encode(variables, z)
    chex.assert_trees_all_equal(codes, result.codes)
    values = subject.decode(variables, codes)
    chex.assert_tree_all_finite(values)
    chex.assert_trees_all_equal(bits(values), bits(result.values))


def test_half_precision_goes_in_and_out_and_is_float32_inside(subject):
  z = subject.z.astype(jnp.bfloat16)
  result, _ = subject.evaluate(subject.variables, z)
  wide, _ = subject.evaluate(subject.variables, z.astype(jnp.float32))
  expected = wide.replace(values=wide.values.astype(jnp.bfloat16))
  chex.assert_trees_all_equal_dtypes(result, expected)
  chex.assert_trees_all_equal(result, expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_training_in_half_precision_keeps_its_state_in_float32(subject, dtype):
  result, after = subject.trace_step(subject.z.astype(dtype))
  chex.assert_type(result.values, dtype)
  chex.assert_type([result.loss, *result.metrics.values()], jnp.float32)
  chex.assert_trees_all_equal_dtypes(after, subject.state())


def test_evaluation_changes_nothing(subject):
  for variables in (subject.variables, subject.padded[-1]):
    _, after = subject.evaluate(variables, subject.z)
    chex.assert_trees_all_equal(after, subject.state(variables))


def test_streams_are_in_range_and_on_their_grid(subject):
  quantizer = subject.quantizer
  codes = subject.encode(subject.variables, subject.z)
  values = quantizer.to_streams(codes)
  assert len(values) == len(quantizer.streams)
  names = [stream.name for stream in quantizer.streams]
  assert len(set(names)) == len(names)
  for stream, value in zip(quantizer.streams, values, strict=True):
    chex.assert_type(value, jnp.int32)
    batch, *sides = GRID
    chex.assert_shape(value, (batch, *(s // stream.stride for s in sides)))
    assert 0 <= value.min() < value.max() < stream.alphabet
  # A point of no value has a code like any other.
  codes = subject.encode(subject.variables, subject.z * np.nan)
  for stream, value in zip(
    quantizer.streams, quantizer.to_streams(codes), strict=True
  ):
    assert 0 <= value.min() and value.max() < stream.alphabet


def test_streams_give_back_codes_that_decode_alike(subject):
  quantizer = subject.quantizer
  result, _ = subject.evaluate(subject.variables, subject.z)
  values = quantizer.to_streams(result.codes)
  again = quantizer.from_streams(values)
  chex.assert_trees_all_equal_shapes_and_dtypes(again, result.codes)
  decoded = subject.decode(subject.variables, again)
  chex.assert_trees_all_equal(bits(decoded), bits(result.values))
  chex.assert_trees_all_equal(quantizer.to_streams(again), values)


def test_what_is_not_sent_is_zero_and_not_needed(subject):
  quantizer = subject.quantizer
  result, _ = subject.evaluate(subject.variables, subject.z)
  values = quantizer.to_streams(result.codes)
  rng = np.random.default_rng(0)
  others = [
    jnp.asarray(rng.integers(0, s.alphabet, v.shape), jnp.int32)
    for s, v in zip(quantizer.streams, values, strict=True)
  ]
  filled = []
  for k, (value, other) in enumerate(zip(values, others, strict=True)):
    is_sent = quantizer.sent(k, values[:k])
    if is_sent is None:
      filled.append(value)
      continue
    chex.assert_type(is_sent, bool)
    chex.assert_trees_all_equal(value, jnp.where(is_sent, value, 0))
    filled.append(jnp.where(is_sent, value, other))
    # Later streams, where they are known, have no say.
    chex.assert_trees_all_equal(
      quantizer.sent(k, (*values[:k], *others[k:])), is_sent
    )
  codes = quantizer.from_streams(filled)
  decoded = subject.decode(subject.variables, codes)
  chex.assert_trees_all_equal(bits(decoded), bits(result.values))


def test_a_draw_decodes_and_belongs_to_its_example(subject):
  quantizer, variables = subject.quantizer, subject.variables

  def evaluate(z, example_index, rngs):
    return quantizer.apply(
      variables, z, draw=True, example_index=example_index, rngs=rngs
    )

  index = jnp.arange(len(subject.z), dtype=jnp.int32)
  if not quantizer.draws:  # nor needs an rng stream
    drawn, hard = (
      re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(subject.z)))
      for function in (
        lambda z: evaluate(z, index, {}),
        lambda z: quantizer.apply(variables, z),
      )
    )
    assert drawn == hard
    return
  evaluate = jax.jit(evaluate)
  result = evaluate(subject.z, index, RNGS)
  decoded = subject.decode(variables, result.codes)
  chex.assert_trees_all_equal(bits(decoded), bits(result.values))
  order = index[::-1]
  chex.assert_trees_all_equal(
    evaluate(subject.z[order], order, RNGS).codes,
    jax.tree.map(lambda x: x[order], result.codes),
  )
  other = evaluate(subject.z, index + len(index), RNGS)
  assert (other.values != result.values).any()
  with pytest.raises(ValueError, match='rng stream "[a-z]+" is missing'):
    jax.eval_shape(lambda z: evaluate(z, index, {}), subject.z)


def test_a_price_belongs_to_its_example(subject):
  quantizer, variables = subject.quantizer, subject.variables
  if not quantizer.has_price:
    plain, priced = (
      re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(subject.z)))
      for function in (
        lambda z: quantizer.apply(variables, z),
        lambda z: quantizer.apply(variables, z, rate_weight=0.5),
      )
    )
    assert plain == priced
    return
  # Before the first step all codewords are as frequent.
  *_, variables = subject.trained(subject.z)
  prices = jnp.array([0.0, 1e-3, 1e-2, 0.05, 0.1, 0.5, 2.0, 10.0])

  @jax.jit
  def encode(z, price):
    return quantizer.apply(variables, z, rate_weight=price, method="encode")

  codes = encode(subject.z, prices)
  for i in range(len(prices)):
    own = jax.tree.map(lambda x, i=i: x[i], codes)
    alone = encode(subject.z[i : i + 1], prices[i])
    chex.assert_trees_all_equal(own, jax.tree.map(lambda x: x[0], alone))
  same = encode(jnp.broadcast_to(subject.z[0], subject.z.shape), prices)
  assert any((x[0] != x[-1]).any() for x in jax.tree.leaves(same))
  with pytest.raises(ValueError, match="rate_weight has the value -1"):
    quantizer.apply(variables, subject.z, rate_weight=-1.0)


def test_what_training_misses_is_named(subject):
  for name in subject.changed:
    with pytest.raises(ValueError, match=rf'mutable=\["{name}"\]'):
      subject.trace_step(subject.z, mutable=False)
  assert set(subject.missed) == set(subject.quantizer.rng_streams)
  for name, message in subject.missed.items():
    assert f'rng stream "{name}" is missing' in message
  if subject.quantizer.draws:
    assert subject.missed


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_padding_holds_reaches_nothing(subject, garbage):
  found = subject.trained(subject.with_padding(garbage), subject.mask)
  gradient, result, after = found
  chex.assert_tree_all_finite(found)
  chex.assert_trees_all_equal(bits(found), bits(subject.padded))
  assert result.metrics["nonfinite_points"] == 0
  assert (gradient[1][~subject.mask] == 0).all()
  is_used = (gradient[1][subject.mask] != 0).any()
  assert is_used == subject.quantizer.has_gradient


def test_a_step_is_that_of_the_real_points(subject):
  if "codebook" in subject.missed:
    pytest.skip("what is placed depends on how many points there are")
  real = subject.real
  share = len(real) / len(subject.mask)
  (gradient, z_gradient), result, after = subject.step(
    subject.variables,
    subject.z[real],
    # Of another dtype, which says the same.
    jnp.ones((len(real), *GRID[1:]), jnp.float32),
    subject.weights[real] * share,
    real.astype(np.int32),
  )
  (padded, z_padded), expected, state = subject.padded
  chex.assert_trees_all_close(
    (gradient, z_gradient, result.loss, result.metrics, result.values, after),
    (
      padded,
      z_padded[real],
      expected.loss,
      expected.metrics,
      expected.values[real],
      state,
    ),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_finite_counts_as_padding(subject, garbage):
  broken = subject.z.at[0, 2, 1, 1].set(garbage).at[2, 0, 0, 0].set(garbage)
  mask = subject.mask.at[0, 2, 1].set(False).at[2, 0, 0].set(False)
  found = subject.trained(broken, subject.mask)
  expected = subject.trained(broken, mask)
  chex.assert_tree_all_finite(found)
  assert found[1].metrics.pop("nonfinite_points") == 2
  assert expected[1].metrics.pop("nonfinite_points") == 0
  chex.assert_trees_all_equal(bits(found), bits(expected))


def test_points_that_are_not_finite_do_no_harm_over_many_steps(subject):
  variables = subject.variables
  for i in range(4):
    z = (subject.z + i).at[i % 3, i].set(np.nan if i % 2 else np.inf)
    _, result, variables = subject.trained(z, variables=variables)
    chex.assert_tree_all_finite((variables, result))
    assert result.metrics["nonfinite_points"] == 4


def test_a_batch_of_nothing_finite(subject):
  found = subject.trained(subject.z * np.nan, subject.mask)
  chex.assert_tree_all_finite(found)
  gradient, result, _ = found
  assert result.metrics["nonfinite_points"] == subject.mask.sum()
  assert (gradient[1] == 0).all()


def test_gradients_are_finite_where_points_are_hard(subject):
  codes = subject.encode(subject.variables, subject.z)
  for z in (
    jnp.zeros_like(subject.z),
    jnp.broadcast_to(subject.z[0, 0, 0], subject.z.shape),
    subject.decode(subject.variables, codes),
    subject.z * 1e6,
    subject.z * 1e-30,
  ):
    chex.assert_tree_all_finite(subject.trained(z))


def test_eight_devices_equal_one(subject):
  _check_eight_devices(subject, by_shard_map)


@pytest.mark.parametrize("way", WAYS)
@for_each_class
def test_eight_devices_equal_one_in_any_way(subject, way):
  _check_eight_devices(subject, way)


def _check_eight_devices(subject, way):
  z = subject.z.at[0, 2, 1, 1].set(np.nan)
  found = way(subject, z)
  expected = subject.trained(z, subject.mask)
  chex.assert_trees_all_equal(found[1].codes, expected[1].codes)
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_mesh_of_explicit_axes_changes_no_type(subject):
  # That a slot's operations say how they spread is known without compiling.
  chex.assert_trees_all_equal_shapes_and_dtypes(
    trace_on_mesh(subject), subject.padded
  )


@for_each_class
@pytest.mark.slow
def test_a_mesh_of_two_axes_changes_no_code(subject):
  quantizer = subject.quantizer
  mesh = jax.make_mesh((4, 2), ("data", "model"))

  def on_mesh(tree, *spec):
    return jax.device_put(tree, jax.NamedSharding(mesh, jax.P(*spec)))

  @jax.jit
  def all_ways(variables, z):
    codes = quantizer.apply(variables, z, method="encode")
    values = quantizer.apply(variables, codes, method="decode")
    return quantizer.apply(variables, z), codes, values

  result, codes, values = all_ways(
    on_mesh(subject.variables), on_mesh(subject.z, "data")
  )
  expected, _ = subject.evaluate(subject.variables, subject.z)
  for found in (result.codes, codes):
    chex.assert_trees_all_equal(found, expected.codes)
  chex.assert_trees_all_equal(bits(values), bits(result.values))
  chex.assert_trees_all_close(result, expected, rtol=1e-5, atol=1e-6)
  rows = jax.P("data", *(None,) * (values.ndim - 1))
  for found in (result.values, values):
    assert found.sharding.spec == rows


@contextlib.contextmanager
def _strict_settings():
  with (
    jax.enable_x64(True),
    jax.debug_nans(True),
    jax.numpy_dtype_promotion("strict"),
    jax.numpy_rank_promotion("raise"),
  ):
    yield


def test_settings_of_jax_change_no_type(subject):
  quantizer = subject.quantizer

  def all_else(z):
    variables = make_variables(quantizer, z)
    codes = quantizer.apply(variables, z, method="encode")
    decoded = quantizer.apply(variables, codes, method="decode")
    return variables, quantizer.apply(variables, z), codes, decoded

  expected = jax.eval_shape(all_else, subject.z)
  with _strict_settings():
    found = jax.eval_shape(all_else, subject.z)
    trained = jax.eval_shape(subject.trained, subject.z, subject.mask)
  chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
  chex.assert_trees_all_equal_shapes_and_dtypes(trained, subject.padded)


@for_each_class
def test_settings_of_jax_change_nothing(subject):
  with _strict_settings():
    trained = subject.trained(subject.with_padding(0.0), subject.mask)
  chex.assert_trees_all_close(trained, subject.padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  "shape", [(), (128,), (8, 16), (2, 4, 4, 4), (0, 2, 4, 4)]
)
def test_any_leading_axes(subject, shape):
  quantizer, variables = subject.quantizer, subject.variables
  points = subject.z.reshape(-1, subject.z.shape[-1])
  z = points[: math.prod(shape)].reshape(*shape, points.shape[-1])

  def everything(z):
    result = quantizer.apply(variables, z, draw=True, rngs=RNGS)
    codes = quantizer.apply(variables, z, method="encode")
    return result, codes, quantizer.apply(variables, codes, method="decode")

  if len(shape) < quantizer.spatial_axes:  # no image
    with pytest.raises(ValueError, match="z has shape"):
      quantizer.apply(variables, z)
    return
  found, codes, decoded = jax.eval_shape(everything, z)
  chex.assert_trees_all_equal_shapes_and_dtypes(codes, found.codes)
  chex.assert_shape([decoded, found.values], z.shape)


@for_each_class
def test_points_are_alike_under_any_leading_axes(subject):
  variables = subject.variables
  shape = (2, 4, 4, 4) if subject.quantizer.spatial_axes else (128,)
  result, _ = subject.evaluate(variables, subject.z.reshape(*shape, -1))
  expected, _ = subject.evaluate(variables, subject.z)
  chex.assert_trees_all_close(
    jax.tree.map(lambda x: x.reshape(-1), result),
    jax.tree.map(lambda x: x.reshape(-1), expected),
    rtol=1e-5,
    atol=1e-6,
  )


def test_a_batch_of_none(subject):
  z, index = subject.z[:0], jnp.zeros(0, jnp.int32)
  _, result, after = subject.step(
    subject.variables, z, subject.mask[:0], z, index
  )
  chex.assert_shape(result.values, z.shape)
  chex.assert_tree_all_finite((result, after))
  assert result.loss == 0
  codes = subject.encode(subject.variables, z)
  chex.assert_trees_all_equal_shapes_and_dtypes(codes, result.codes)
  chex.assert_shape(subject.decode(subject.variables, codes), z.shape)


@for_each_class
def test_it_vmaps_over_models_and_batches(subject):
  quantizer = subject.quantizer
  models = [subject.variables, subject.padded[-1]]
  stacked = jax.tree.map(lambda *x: np.stack(x), *models)
  z = np.stack([subject.z, -subject.z])

  def encode_and_decode(variables, z):
    codes = quantizer.apply(variables, z, method="encode")
    return codes, quantizer.apply(variables, codes, method="decode")

  found = jax.jit(jax.vmap(encode_and_decode))(stacked, z)
  codes, values = jax.device_get(found)
  for i, variables in enumerate(models):
    expected, _ = subject.evaluate(variables, z[i])
    chex.assert_trees_all_close(
      jax.tree.map(lambda x, i=i: x[i], (codes, values)),
      (expected.codes, expected.values),
      rtol=1e-5,
      atol=1e-6,
    )
  found = jax.eval_shape(jax.vmap(quantizer.apply), stacked, z)
  chex.assert_trees_all_equal_shapes_and_dtypes(found.codes, codes)
  chex.assert_shape(found.values, z.shape)


def _step(quantizer, z):
  """For Flax's transformations: training, and what is to be compared of it."""
  result = quantizer(z, train=True)
  return result.loss, result.values


@for_each_class
def test_flax_vmaps_it(subject):
  stacked = jax.tree.map(lambda x: np.stack([x, x]), subject.variables)
  z = subject.stacked
  lifted = nn.vmap(
    _step,
    variable_axes={True: 0},
    split_rngs={True: False},
  )
  found = jax.jit(
    lambda v, z: subject.quantizer.apply(
      v, z, method=lifted, mutable=STATE, rngs=RNGS
    )
  )(stacked, z)
  (loss, values), after = jax.device_get(found)
  for i in range(2):
    _, result, state = subject.trained(z[i])
    chex.assert_trees_all_close(
      jax.tree.map(lambda x, i=i: x[i], (loss, values, after)),
      (result.loss, result.values, subject.state(state)),
      rtol=1e-4,
      atol=1e-5,
    )


def test_a_field_trains_as_the_argument_does(subject):
  quantizer = subject.quantizer

  def jaxpr(quantizer, **train):
    traced = jax.make_jaxpr(
      lambda v, z: quantizer.apply(v, z, mutable=STATE, rngs=RNGS, **train)
    )(subject.variables, subject.z)
    return re.sub("0x[0-9a-f]+", "", str(traced))

  trained, evaluated = jaxpr(quantizer, train=True), jaxpr(quantizer)
  if subject.changed:  # else there is nothing that could be trained
    assert trained != evaluated
  assert jaxpr(quantizer.clone(train=True)) == trained
  assert jaxpr(quantizer.clone(train=False)) == evaluated
  for given in (True, False):
    with pytest.raises(ValueError, match="train is .* the field train=True"):
      jaxpr(quantizer.clone(train=True), train=given)


@for_each_class
def test_flax_scans_it_and_forgets_what_gradients_can_compute_again(subject):
  lifted = nn.scan(
    lambda quantizer, carry, z: (carry, nn.remat(_step)(quantizer, z)),
    variable_broadcast="params",
    variable_carry=STATE,
    split_rngs={True: False},
  )
  zs = subject.stacked

  def loss(params, z):
    (_, (losses, values)), state = subject.quantizer.apply(
      {**subject.variables, "params": params},
      (),
      z,
      method=lifted,
      mutable=STATE,
      rngs=RNGS,
    )
    total = losses.sum() + 2 * (values * subject.weights).mean()
    return total, (losses, values, state)

  twice = jax.grad(loss, (0, 1), has_aux=True)
  params = subject.variables.get("params", {})
  if subject.missed:  # a scan draws random numbers of its own
    gradients, (*_, after) = jax.eval_shape(twice, params, zs)
    chex.assert_trees_all_equal_shapes_and_dtypes(
      (gradients, after), ((params, zs), subject.state())
    )
    return
  (gradient, z_gradients), (losses, values, after) = jax.device_get(
    jax.jit(twice)(params, zs)
  )
  total, variables = jax.tree.map(np.zeros_like, gradient), subject.variables
  for i, z in enumerate(zs):
    (own, z_gradient), result, variables = subject.trained(
      z, variables=variables
    )
    total = jax.tree.map(np.add, total, jax.device_get(own))
    chex.assert_trees_all_close(
      (losses[i], values[i], z_gradients[i]),
      (result.loss, result.values, z_gradient),
      rtol=1e-4,
      atol=1e-5,
    )
  chex.assert_trees_all_close(
    (gradient, after), (total, subject.state(variables)), rtol=1e-4, atol=1e-5
  )


@for_each_class
def test_its_nnx_module_makes_the_same_variables(subject):
  quantizer = subject.quantizer
  made = nnx.jit(lambda rngs: Stateful(quantizer, rngs=rngs))(
    nnx.Rngs(params=0, codebook=1)
  )
  rngs = nnx.Rngs(params=0, codebook=1)
  keys = {"params": rngs.params(), "codebook": rngs.codebook()}
  expected = make_variables(quantizer, subject.z, keys)
  chex.assert_trees_all_equal(bits(made.linen_variables()), bits(expected))


def test_its_nnx_module_is_the_same_program(subject):
  quantizer = subject.quantizer
  abstract = nnx.eval_shape(lambda: Stateful(quantizer, rngs=nnx.Rngs(0)))
  graphdef, state = nnx.split(abstract)

  def ours(variables, z, mask):
    module = nnx.merge(graphdef, state, copy=True)
    module.set_variables(variables)
    trained = module(z, mask=mask, rngs=RNGS)
    variables = module.linen_variables()
    module.eval()
    codes = module.encode(z)
    return trained, variables, module(z), codes, module.decode(codes)

  def linens(variables, z, mask):
    trained, after = quantizer.apply(
      variables, z, train=True, mask=mask, mutable=STATE, rngs=RNGS
    )
    variables = {**variables, **after}
    codes = quantizer.apply(variables, z, method="encode")
    result = quantizer.apply(variables, z)
    decoded = quantizer.apply(variables, codes, method="decode")
    return trained, variables, result, codes, decoded

  programs = [
    jax.make_jaxpr(function)(subject.variables, subject.z, subject.mask)
    for function in (ours, linens)
  ]
  texts = [re.sub("0x[0-9a-f]+", "", str(traced)) for traced in programs]
  assert texts[0] == texts[1]


@for_each_class
def test_encode_and_decode_are_exported(subject):
  codes = subject.encode(subject.variables, subject.z)
  for function, argument in (
    (subject.encode, subject.z),
    (subject.decode, codes),
  ):
    exported = export.export(function)(subject.variables, argument)
    chex.assert_trees_all_equal(
      exported.call(subject.variables, argument),
      function(subject.variables, argument),
    )


def test_a_step_is_traced_once(subject):
  *_, variables = subject.trained(subject.z)
  before = subject.traces.copy()
  subject.trained(subject.z + 1, subject.mask, variables)
  assert subject.traces == before


def test_unbound_it_says_what_it_is(subject):
  quantizer = subject.quantizer
  quantizer.check()
  hash(quantizer)
  assert quantizer == quantizer.copy()
  assert quantizer.axis_name is None
  assert quantizer.sharded_size == 0
  assert quantizer.draws in (False, True)
  assert quantizer.spatial_axes in (0, 2)
  fields = {field.name for field in dataclasses.fields(quantizer)}
  assert fields.issuperset(quantizer.decoding_fields or ())


def test_check_refuses_by_name(subject):
  for field in dataclasses.fields(subject.quantizer):
    if field.name in ("parent", "name"):
      continue
    for bad in (-1.5, "?!", ()):
      try:
        subject.quantizer.clone(**{field.name: bad}).check()
      except ValueError as error:
        assert field.name in str(error)
        assert "\n" not in str(error)
        break
    else:
      pytest.fail(f"nothing was refused for {field.name}")


def test_the_quantizer_that_the_docs_walk_through_keeps_it():
  names = pages.run("docs/adding_a_quantizer.md")
  subject = Subject(Case(names["quantizer"]))
  test_evaluation_gives_what_its_codes_decode_to(subject)
  test_streams_are_in_range_and_on_their_grid(subject)
  test_streams_give_back_codes_that_decode_alike(subject)
  test_a_step_is_that_of_the_real_points(subject)
  test_a_batch_of_nothing_finite(subject)
  test_its_nnx_module_is_the_same_program(subject)
  test_check_refuses_by_name(subject)
