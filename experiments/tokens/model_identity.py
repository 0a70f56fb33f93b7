"""The identity of the model that a token file belongs to.

Only the model that encoded images can decode them, so a token file names it.
The identity is a hash of what decoding reads, and of nothing else.  So it does
not change with fields and arrays that are added later, or that only training or
encoding reads, and no file loses its model.  A field counts where it is not its
default, so the defaults of fields that decoding reads must stay as they are.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import math
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments import files
from experiments.runs import checkpoint_file
from experiments.runs import workdir as workdirs

# Fields of every Flax module; they say where it is, not what it does.
_OF_FLAX = ("parent", "name")
# Earlier versions of this program hashed all arrays and these fields of a
# config, with the defaults of fields that the run did not have yet.  That list
# is closed: fields that come now are in no such hash.
_HASHED_BEFORE = ("dtype", "model", "quantizer")
_ADDED_BEFORE = (("shard_codebook", False), ("entropy_weight", 0.0))


def compute(model: nn.Module, variables: Any) -> str:
  """Returns the SHA-256, in hexadecimal, of what decoding reads.

  These are the class of the model, the fields that its `decode` reads where
  they are not the default, and the arrays that it reads.  The same holds for
  modules within it.  The encoder is not among them: images do not depend on
  where their codes come from.

  Args:
    model: the model of the run, with streams.
    variables: the variables of the model.
  """
  arrays = checkpoint_file.array_hashes(_arrays_read(model, variables))
  return checkpoint_file.json_hash({"model": _plain(model), "arrays": arrays})


def matches(
  identity: str,
  workdir: pathlib.Path,
  model: nn.Module,
  variables: Any,
) -> bool:
  """Returns whether a token file's identity is that of a run's model.

  Args:
    identity: the identity in the file, from this version or an earlier one.
    workdir: the directory of the run.
    model: the model of the run.
    variables: the variables of the model.
  """
  if identity == compute(model, variables):
    return True
  stored = files.read_json(workdir / workdirs.CONFIG)
  return identity in _computed_before(stored, variables)


def _arrays_read(model: nn.Module, variables: Any) -> dict[str, Any]:
  """Returns the arrays that `decode` computes with, by name."""
  # Codes of any image tell which arrays these are.
  side = math.lcm(*(stream.stride for stream in model.streams))
  codes = model.from_streams(
    [
      jnp.zeros((1, side // stream.stride, side // stream.stride), jnp.int32)
      for stream in model.streams
    ]
  )
  decode = functools.partial(model.apply, method="decode")
  traced = jax.make_jaxpr(decode)(variables, codes).jaxpr
  read = {id(x) for equation in traced.eqns for x in equation.invars}
  leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    # The inputs after them are the codes.
    for (path, leaf), x in zip(leaves, traced.invars, strict=False)
    if id(x) in read
  }


def _plain(value: Any) -> Any:
  """Returns a module, or the value of one of its fields, as JSON has it.

  A class without `decoding_fields` counts with all of its fields, because it
  is unknown which of them decoding reads.
  """
  if dataclasses.is_dataclass(value):
    names = getattr(value, "decoding_fields", None)
    fields = {
      field.name: _plain(getattr(value, field.name))
      for field in dataclasses.fields(value)
      if field.name not in _OF_FLAX
      and (names is None or field.name in names)
      and not _is_default(field, getattr(value, field.name))
    }
    return {"class": type(value).__name__, **fields}
  if isinstance(value, Mapping):
    return {str(name): _plain(each) for name, each in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(each) for each in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  return jnp.dtype(value).name


def _is_default(field: dataclasses.Field, value: Any) -> bool:
  default = field.default
  if field.default_factory is not dataclasses.MISSING:
    default = field.default_factory()
  is_given = default is not dataclasses.MISSING
  return is_given and _plain(value) == _plain(default)


def _computed_before(
  stored: Mapping[str, Any], variables: Any
) -> Iterator[str]:
  """Yields the identities that earlier versions gave to a model.

  Args:
    stored: the content of the run's config.json.
    variables: the variables of the model.
  """
  fields = {name: stored[name] for name in _HASHED_BEFORE if name in stored}
  fields["arrays"] = checkpoint_file.array_hashes(variables)
  yield checkpoint_file.json_hash(fields)
  for name, default in _ADDED_BEFORE:
    quantizer = {name: default, **fields.get("quantizer", {})}
    fields = {**fields, "quantizer": quantizer}
    yield checkpoint_file.json_hash(fields)
