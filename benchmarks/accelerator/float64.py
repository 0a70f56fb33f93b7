"""What a function of float32 numbers is in float64.

The library quantizes in float32 whatever it is given, so JAX's switch to 64
bits does not help.  Here JAX's program of a function is computed, operation by
operation, with a float64 for each float32.  Random bits stay the same.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.extend.core import JaxprEqn
from jax.extend.core import Literal
import jax.numpy as jnp
import numpy as np


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function that computes, compiled, in float64.

  Args:
    function: of trees of arrays; none of them is held by the function.

  Returns:
    A function of the same trees, whose float32 arrays may be of float64, which
    gives NumPy's arrays.  It runs on JAX's default device.
  """
  programs: dict[Any, tuple[Callable[..., Any], Any]] = {}

  def call(*trees: Any) -> Any:
    leaves, structure = jax.tree.flatten(jax.tree.map(_narrow, trees))
    key = structure, tuple((x.shape, x.dtype) for x in leaves)
    if key not in programs:
      program, result = jax.make_jaxpr(function, return_shape=True)(
        *jax.tree.unflatten(structure, leaves)
      )
      with jax.enable_x64(True):
        programs[key] = (
          jax.jit(lambda *inputs: _evaluate(program, inputs)),
          jax.tree.structure(result),
        )
    compiled, structure = programs[key]
    with jax.enable_x64(True):
      outputs = jax.device_get(compiled(*map(_widen, jax.tree.leaves(trees))))
    return jax.tree.unflatten(structure, outputs)

  return call


def _narrow(x: Any) -> jax.ShapeDtypeStruct:
  """Returns the shape and dtype with which a function is traced."""
  dtype = np.float32 if x.dtype == np.float64 else x.dtype
  return jax.ShapeDtypeStruct(x.shape, dtype)


def _widen(x: Any) -> Any:
  """Returns an array, in float64 if it is of float32."""
  is_float32 = getattr(x, "dtype", None) == np.float32
  return x.astype(np.float64) if is_float32 else x


def _wide_dtype(x: Any) -> Any:
  """Returns a parameter of an operation, float64 if it is float32."""
  is_float32 = isinstance(x, np.dtype) and x == np.float32
  return np.dtype(np.float64) if is_float32 else x


def _evaluate(program: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
  """Returns the outputs of a program in float64."""
  jaxpr = program.jaxpr
  values = dict(zip(jaxpr.constvars, map(_widen, program.consts), strict=True))
  values.update(zip(jaxpr.invars, inputs, strict=True))

  def read(atom: Any) -> Any:
    if isinstance(atom, Literal):
      return _widen(jnp.asarray(atom.val, atom.aval.dtype))
    return values[atom]

  for equation in jaxpr.eqns:
    rule = _RULES.get(equation.primitive.name, _bind)
    outputs = rule(equation, *map(read, equation.invars))
    values.update(zip(equation.outvars, outputs, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _bind(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  """The rule of an operation that takes float64 as it takes float32."""
  params = {name: _wide_dtype(x) for name, x in equation.params.items()}
  outputs = equation.primitive.bind(*inputs, **params)
  return outputs if equation.primitive.multiple_results else [outputs]


def _bits(equation: JaxprEqn, x: jax.Array) -> Sequence[jax.Array]:
  """The rule of what looks at the bits of a number: they are of float32."""
  if x.dtype == np.float64:
    x = x.astype(np.float32)
  return [_widen(equation.primitive.bind(x, **equation.params))]


def _same(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  """The rule of what rounds to float32."""
  del equation
  return inputs


def _call(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  """The rule of what calls another program."""
  params = equation.params
  program = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
  if not isinstance(program, ClosedJaxpr):
    program = ClosedJaxpr(program, ())
  return _evaluate(program, inputs)


def _scan(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  params = equation.params
  num_consts, num_carry = params["num_consts"], params["num_carry"]
  constants, inputs = inputs[:num_consts], inputs[num_consts:]

  def step(carry: Sequence[Any], xs: Sequence[Any]) -> Any:
    outputs = _evaluate(params["jaxpr"], (*constants, *carry, *xs))
    return outputs[:num_carry], outputs[num_carry:]

  carry, ys = jax.lax.scan(
    step,
    list(inputs[:num_carry]),
    inputs[num_carry:],
    length=params["length"],
    reverse=params["reverse"],
  )
  return [*carry, *ys]


def _while(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  params = equation.params
  first, second = params["cond_nconsts"], params["body_nconsts"]
  of_condition, of_body, carry = (
    inputs[:first],
    inputs[first : first + second],
    inputs[first + second :],
  )
  return jax.lax.while_loop(
    lambda x: _evaluate(params["cond_jaxpr"], (*of_condition, *x))[0],
    lambda x: _evaluate(params["body_jaxpr"], (*of_body, *x)),
    list(carry),
  )


def _cond(equation: JaxprEqn, index: jax.Array, *inputs: Any) -> Sequence[Any]:
  branches = [
    lambda *xs, branch=branch: _evaluate(branch, xs)
    for branch in equation.params["branches"]
  ]
  return jax.lax.switch(index.astype(np.int32), branches, *inputs)


def _scatter(equation: JaxprEqn, *inputs: Any) -> Sequence[Any]:
  """The rule of operations that have a program of float32 numbers in them."""
  functions = {
    "scatter": jax.lax.scatter,
    "scatter-add": jax.lax.scatter_add,
  }
  names = "dimension_numbers", "indices_are_sorted", "unique_indices", "mode"
  params = {name: equation.params[name] for name in names}
  return [functions[equation.primitive.name](*inputs, **params)]


def _search(
  equation: JaxprEqn, points: jax.Array, codewords: jax.Array
) -> Sequence[jax.Array]:
  """The rule of the kernel of a search."""
  del equation
  differences = points[:, None] - codewords
  return [jnp.argmin((differences**2).sum(-1), axis=1).astype(np.int32)]


_RULES = {
  "bitcast_convert_type": _bits,
  "closed_call": _call,
  "cond": _cond,
  "custom_jvp_call": _call,
  "custom_vjp_call": _call,
  "jit": _call,
  "nearest_codes_kernel": _search,
  "reduce_precision": _same,
  "remat2": _call,
  "scan": _scan,
  "scatter": _scatter,
  "scatter-add": _scatter,
  "while": _while,
}
