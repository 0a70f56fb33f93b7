"""The block `config.quantizer`: a kind, and the fields of that kind alone.

The classes of `adq_jax` say what these fields are: a field of a class is a
field of its block, with the default that it has there, and an object in a slot
of a class is a block within it.  So a new field needs no other edit, and a new
class one row of `kinds` or `slots`.

It is here and not beside what builds models, since configs are read, and fields
of them refused, before there is anything to build.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import typing
from typing import Any

from experiments.configs import fields
from experiments.configs.upgrade import KINDS
from experiments.errors import UserError

BLOCK = "quantizer"  # the field of a config
KIND = "kind"  # the field of a block that says what the others are
OF_MODEL = ("features", "axis_name")  # the model gives them, no config
TEMPLATE = "quantizer"  # the field of a product for what quantizes a group
# The product has the projections, and bits of groups have no tables of prices.
_NOT_OF_GROUPS = ("output_kernel", "price", "shard_codebook")
_OF_FLAX = ("parent", "name")  # fields of every module
_OF_CALLS = ("train",)  # a step says it
_LARGEST = 2**31 - 1  # JAX indexes in int32


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of quantizer.

  Attributes:
    cls: its class.
    fields: defaults of fields that a config spells in another way than the
      class, or need not give although the class needs them.
    resolve: returns the class's fields, given those of a block.
    template: of a product, the class of the quantizer of a group: its fields
      are in the same block, but for those that the product has too, or that
      `_NOT_OF_GROUPS` has.
  """

  cls: type
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict
  template: type | None = None


@functools.cache
def kinds() -> dict[str, Kind]:
  """Returns all kinds of quantizers, by name; the only list of them."""
  # Imported late: what reads logs alone needs no JAX.
  import adq_jax

  return {
    "adaptive": Kind(
      adq_jax.AdaptiveQuantizer,
      # N x D of every codebook, or 0 for any structures, which then must be
      # given; and ((N, D), ...), empty for all that the capacity gives.
      {"capacity": 65_536, "structures": ()},
      _with_structures,
    ),
    "vector": Kind(adq_jax.VectorQuantizer),
    "residual": Kind(adq_jax.ResidualQuantizer),
    "fsq": Kind(adq_jax.FSQ),
    "residual_fsq": Kind(adq_jax.ResidualFSQ),
    "lfq": Kind(adq_jax.LFQ),
    "bsq": Kind(adq_jax.BSQ),
    "qinco": Kind(adq_jax.QINCo),
    "product": _product(adq_jax.VectorQuantizer),
    "grouped_residual": _product(adq_jax.ResidualQuantizer),
    "grouped_fsq": _product(adq_jax.FSQ),
    "categorical": Kind(adq_jax.CategoricalQuantizer),
  }


def _product(template: type) -> Kind:
  import adq_jax

  return Kind(adq_jax.ProductQuantizer, template=template)


@functools.cache
def slots() -> dict[str, dict[str, type]]:
  """Returns the classes that a slot may hold, by slot and kind.

  A slot that is not here holds the class of its default, and has no kind.
  """
  import adq_jax

  return {
    "assignment": {
      "nearest": adq_jax.Nearest,
      "sampled": adq_jax.SampledCodes,
    },
    "choice": {
      "attention": adq_jax.AttentionChoice,
      "distortion": adq_jax.DistortionChoice,
    },
    "codewords": {
      "free": adq_jax.FreeCodewords,
      "linear": adq_jax.LinearCodewords,
      "affine": adq_jax.AffineCodewords,
    },
    "estimator": {
      "straight_through": adq_jax.StraightThrough,
      "rotation": adq_jax.RotationTrick,
      "directional": adq_jax.Directional,
      "synchronized": adq_jax.Synchronized,
    },
    "network": {
      "qinco": adq_jax.QINCoNetwork,
      "qinco2": adq_jax.QINCo2Network,
    },
    "depth_choice": {
      "all": adq_jax.AllStages,
      "attention": adq_jax.AttentionChoice,
    },
    "kept": {
      "all": adq_jax.AllKept,
      "random": adq_jax.RandomKept,
    },
    # A run keeps no constants, so it has no RandomProjections.
    "split": {"slices": adq_jax.Slices},
    "price": {
      "none": adq_jax.NoPrice,
      "nominal": adq_jax.NominalPrice,
      "coded": adq_jax.CodedPrice,
    },
    "posterior": {
      "softmax": adq_jax.SoftmaxPosterior,
      "dirichlet": adq_jax.DirichletPosterior,
    },
    "relaxation": {
      "soft": adq_jax.SoftRelaxation,
      "hard": adq_jax.HardRelaxation,
    },
    "scores": {
      "linear": adq_jax.LinearScores,
      "distance": adq_jax.DistanceScores,
      "position_distance": adq_jax.PositionDistanceScores,
      "hyperbolic": adq_jax.HyperbolicScores,
    },
    "similarity": {
      "euclidean": adq_jax.Euclidean,
      "cosine": adq_jax.Cosine,
    },
    "update": {
      "ema": adq_jax.EmaUpdate,
      "smoothed_ema": adq_jax.SmoothedEmaUpdate,
      "gradient": adq_jax.GradientUpdate,
      "frozen": adq_jax.FrozenUpdate,
    },
  }


def adaptive() -> dict[str, Any]:
  """Returns the block of the paper's pool."""
  return defaults({KIND: "adaptive"})


def vector(codebook_size: int, embedding_dim: int) -> dict[str, Any]:
  """Returns the block of one codebook, of N codewords of width D."""
  block = defaults({KIND: "vector"})
  return block | {
    "codebook_size": codebook_size,
    "embedding_dim": embedding_dim,
  }


def defaults(block: Any) -> dict[str, Any]:
  """Returns all fields that a block has, nested, with their defaults.

  Args:
    block: nested fields, of which those called "kind" are read.  Where one is
      missing, it is the default.

  Returns:
    its kinds, and the other fields; one without a default has a value that
    stands for its type, such as 0.

  Raises:
    UserError: if there is no such kind.
  """
  return {name: each.value for name, each in _entries(block).items()}


def required(block: Mapping[str, Any]) -> list[str]:
  """Returns the names of a block's fields that have no default."""
  return [name for name, each in _entries(block).items() if each.is_required]


def switched(
  block: Mapping[str, Any], path: Sequence[str], kind: str
) -> dict[str, Any]:
  """Returns a block with another kind of quantizer, or of object in a slot.

  Fields that both kinds have keep their values.

  Args:
    block: nested fields.
    path: the slot, such as ("update",); () for the kind of the quantizer.
    kind: the other one.

  Raises:
    UserError: if there is no such kind.
  """
  wanted = _with_kind(block, path, kind)
  return _taken_over(defaults(wanted), wanted)


def sized_by(block: Mapping[str, Any]) -> list[str]:
  """Returns the names of the fields of a block that say how large it is."""
  kind = kinds()[block[KIND]]
  needed = [
    field.name
    for field in of_kind(kind)
    if default_of(field) is dataclasses.MISSING and block[field.name]
  ]
  return needed or [name for name in kind.fields if block[name]] or [KIND]


def of_kind(kind: Kind) -> list[dataclasses.Field]:
  """Returns the fields of a kind's classes that its block has."""
  if kind.template is None:
    return of_block(kind.cls)
  own = [field for field in of_block(kind.cls) if field.name != TEMPLATE]
  return own + of_template(kind)


def of_template(kind: Kind) -> list[dataclasses.Field]:
  """Returns the fields of a group's quantizer that the block has."""
  left_out = {field.name for field in of_block(kind.cls)} | {*_NOT_OF_GROUPS}
  return [f for f in of_block(kind.template) if f.name not in left_out]


def of_block(cls: type) -> list[dataclasses.Field]:
  """Returns the fields of a class that a config says."""
  left_out = (*_OF_FLAX, *_OF_CALLS, *OF_MODEL)
  return [f for f in dataclasses.fields(cls) if f.name not in left_out]


def default_of(field: dataclasses.Field) -> Any:
  """Returns the default of a class's field; MISSING if it has none."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def classes_of(field: dataclasses.Field) -> dict[str, type]:
  """Returns the classes that a field may hold, by kind; {} if it is no slot."""
  default = default_of(field)
  if not dataclasses.is_dataclass(default):
    return {}
  return slots().get(field.name, {"": type(default)})


@dataclasses.dataclass(frozen=True)
class _Entry:
  """A field of a block: its default, or a value of its type."""

  value: Any
  is_required: bool = False


def _entries(block: Any) -> dict[str, _Entry]:
  block = block if isinstance(block, Mapping) else {}
  known = kinds()
  name = _known(BLOCK, block.get(KIND, next(iter(known))), known)
  kind = known[name]
  entries = {KIND: _Entry(name)}
  entries |= {name: _Entry(value) for name, value in kind.fields.items()}
  for name, entry in _of_fields(of_kind(kind), block, BLOCK):
    entries.setdefault(name, entry)
  return entries


def _of_fields(
  own: Sequence[dataclasses.Field],
  block: Mapping[str, Any],
  place: str,
  default: Any = None,
) -> Iterator[tuple[str, _Entry]]:
  """Yields fields of a class, with the values that they have in `default`.

  Args:
    own: the fields.
    block: nested fields, for the kinds in it.
    place: the name of the block.
    default: an object of the class, None for the class's own defaults.
  """
  for field in own:
    value = default_of(field)
    if default is not None:
      value = getattr(default, field.name)
    if classes_of(field):
      place_of_slot = f"{place}.{field.name}"
      fields_of_slot = _of_slot(
        field, value, block.get(field.name), place_of_slot
      )
      if fields_of_slot:
        yield field.name, _Entry(fields_of_slot)
    elif value is dataclasses.MISSING:
      kind = typing.get_origin(field.type) or field.type
      yield field.name, _Entry(kind(), is_required=True)
    else:
      yield field.name, _Entry(value)


def _of_slot(
  field: dataclasses.Field, default: Any, block: Any, place: str
) -> dict[str, Any]:
  """Returns the block of a slot; {} if there is nothing to say of it."""
  block = block if isinstance(block, Mapping) else {}
  classes = classes_of(field)
  (kind,) = (k for k, cls in classes.items() if cls is type(default))
  if len(classes) > 1:
    kind = _known(place, block.get(KIND, kind), classes)
  cls = classes[kind]
  same = default if cls is type(default) else None
  entries = {
    name: entry.value
    for name, entry in _of_fields(of_block(cls), block, place, same)
  }
  return {KIND: kind, **entries} if len(classes) > 1 else entries


def _known(place: str, kind: Any, known: Mapping[str, Any]) -> str:
  if not isinstance(kind, str) or kind not in known:
    if isinstance(kind, str) and kind in KINDS:
      raise UserError(f"config.{place}.{KIND} {kind} is {KINDS[kind]} now")
    wanted = f"one of {', '.join(known)}"
    raise fields.wrong(f"{place}.{KIND}", kind, wanted)
  return kind


def _with_kind(
  block: Mapping[str, Any], path: Sequence[str], kind: str
) -> dict[str, Any]:
  if not path:
    return {**block, KIND: kind}
  name, *rest = path
  return {**block, name: _with_kind(block[name], rest, kind)}


def _taken_over(
  block: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the fields of a block with the values that are given for them."""
  result = dict(block)
  for name, value in block.items():
    other = given.get(name)
    if isinstance(value, Mapping) and isinstance(other, Mapping):
      result[name] = _taken_over(value, other)
    elif type(other) is type(value):
      result[name] = other
  return result


def _with_structures(block: dict[str, Any]) -> dict[str, Any]:
  """Returns the fields of a pool, with the structures of its capacity.

  Raises:
    ValueError: if structures are no pairs, or not of the capacity.
  """
  from adq_jax import codebook_structures

  rest = {name: value for name, value in block.items() if name != "capacity"}
  capacity, given = block["capacity"], block["structures"]
  source = "structures" if given else "capacity"
  pairs = _pairs(given) if given else codebook_structures(capacity)
  for size, dim in pairs:
    name = f"structure [{size},{dim}]"
    if max(size, dim) > _LARGEST:
      raise ValueError(
        f"{source} makes the {name}; both must be at most {_LARGEST}"
      )
    if capacity == 0:
      if size < 1 or dim < 1:
        raise ValueError(f"{source} has the {name}; both must be positive")
    elif dim < 1 or size <= dim:
      raise ValueError(
        f"{source} has the {name}; it needs more codewords than they are wide,"
        " N > D >= 1"
      )
    elif size * dim != capacity:
      raise ValueError(
        f"{source} has the {name}, of capacity {size * dim}; it must be that of"
        f" config.{BLOCK}.capacity, {capacity}, or this be 0"
      )
  return rest | {"structures": tuple(pairs)}


def _pairs(given: Sequence[Any]) -> tuple[tuple[int, int], ...]:
  try:
    pairs = tuple((n, d) for n, d in given)
  except (TypeError, ValueError):
    pairs = ()
  if not pairs or any(type(size) is not int for size in sum(pairs, ())):
    raise ValueError(
      f"structures is {fields.shown(given)}; it must be pairs of integers,"
      " ((N, D), ...)"
    )
  return pairs
