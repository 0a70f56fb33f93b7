"""The header of a token file, which describes it; see `token_file`."""

from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from adq_jax import Stream
from experiments import files
from experiments.runs import frequencies
from experiments.tokens import packing

VERSION = 3

_MAX_STREAMS = 512
_OF_STREAM = ("name", "alphabet", "stride", "coding", "group")
_OF_SECOND_VERSION = _OF_STREAM[:-1]


@dataclasses.dataclass(frozen=True)
class Tables:
  """The tables of frequencies of the model by which a file is coded.

  Attributes:
    sha256: the hash of all of them, see `Frequencies.sha256`.
    row: of the tables; see `Frequencies.mixed`.
    weight: of the next row, in 256ths.
  """

  sha256: str
  row: int
  weight: int


@dataclasses.dataclass(frozen=True)
class Header:
  """The description that a token file begins with.

  Attributes:
    name: the data set that the model was trained on.
    variant: the variant of the model's config.
    step: the step of the model's checkpoint.
    model: the identity of the model, see `model_identity.compute`.
    streams: the streams of the model, as `bare` returns them.
    channels: the number of channels of the images.
    downsampling: the pixels on each side that a position stands for.
    num_images: the number of images in all chunks.
    tables: of the model, by which codes may be coded; None of none.
    version: the version of the file.
  """

  name: str
  variant: str
  step: int
  model: str
  streams: tuple[Stream, ...]
  channels: int
  downsampling: int
  num_images: int
  tables: Tables | None = None
  version: int = VERSION

  def is_of(self, streams: Sequence[Stream]) -> bool:
    """Returns whether a model with these streams may have written it."""
    if self.version > 2:
      return self.streams == bare(streams)
    if self.version == 2:  # its streams had no groups
      return self.streams == _with(streams, _OF_SECOND_VERSION)
    # Its streams had no names.
    return [(s.alphabet, s.stride, s.coding) for s in self.streams] == [
      (s.alphabet, s.stride, s.coding) for s in streams
    ]

  def to_json(self) -> bytes:
    """Returns the header as it is written, by the newest version."""
    fields = dataclasses.asdict(self)
    del fields["version"]
    fields["streams"] = [
      {name: stream[name] for name in _OF_STREAM}
      for stream in fields["streams"]
    ]
    return json.dumps(fields, separators=(",", ":")).encode()


def bare(streams: Sequence[Stream]) -> tuple[Stream, ...]:
  """Returns streams with only the fields that reading a file needs."""
  return _with(streams, _OF_STREAM)


def _with(
  streams: Sequence[Stream], fields: Sequence[str]
) -> tuple[Stream, ...]:
  """Returns streams with some of their fields alone."""
  return tuple(
    Stream(**{name: getattr(stream, name) for name in fields})
    for stream in streams
  )


def parse(value: Any, version: int) -> Header:
  """Returns a header after checking the types and ranges of its fields.

  Args:
    value: the header as JSON.
    version: the version of the file.

  Raises:
    ValueError: if it is no header.
  """
  if not isinstance(value, dict):
    raise ValueError("it is no object")
  others = dict(value)
  tables = _tables(others.pop("tables", None)) if version > 2 else None
  if version == 1:
    streams = _streams_of_structures(others.pop("structures", None))
  elif version == 2:
    streams = _streams(others.pop("streams", None), _OF_SECOND_VERSION)
    _check_coded(streams)
  else:
    streams = _streams(others.pop("streams", None), _OF_STREAM)
  known = {"streams": streams, "tables": tables, "version": version}
  header = Header(**{**others, **known})
  if known.keys() & others.keys():
    raise ValueError("it has fields of another version")
  for field in ("name", "variant", "model"):
    files.check_name(getattr(header, field))
  ranges = {
    "step": (0, 2**31),
    "channels": (1, 2**16),
    "downsampling": (2, 2**16),
    "num_images": (1, 2**63),
  }
  for field, (lowest, end) in ranges.items():
    _check_number(field, getattr(header, field), lowest, end)
  return header


def _streams(value: Any, of_stream: Sequence[str]) -> tuple[Stream, ...]:
  """Returns the streams of a header, which have these fields."""
  if not isinstance(value, list) or not 1 <= len(value) <= _MAX_STREAMS:
    raise ValueError("its streams are no list of streams")
  for fields in value:
    if not isinstance(fields, dict) or set(fields) != set(of_stream):
      raise ValueError("a stream has other fields")
    files.check_name(fields["name"])
    if fields.get("group", "") != "":
      files.check_name(fields["group"])
    _check_number("alphabet", fields["alphabet"], 1, 2**31)
    _check_number("stride", fields["stride"], 1, 2**16)
  return tuple(Stream(**fields) for fields in value)


def _check_coded(streams: Sequence[Stream]) -> None:
  """Raises a ValueError if version 2 could not have coded some of them."""
  for stream in streams:
    if stream.coding == "entropy":
      end = packing.MAX_SYMBOLS + 1
      _check_number("alphabet", stream.alphabet, 1, end)


def _tables(value: Any) -> Tables | None:
  if value is None:
    return None
  if not isinstance(value, dict):
    raise ValueError("its tables are no object")
  tables = Tables(**value)
  files.check_name(tables.sha256)
  _check_number("row", tables.row, 0, frequencies.MAX_PRICES)
  _check_number("weight", tables.weight, 0, frequencies.WEIGHTS + 1)
  return tables


def _streams_of_structures(value: Any) -> tuple[Stream, ...]:
  """Returns the streams of codebooks of these (N, D), from version 1."""
  if (
    not isinstance(value, list)
    or not 1 <= len(value) <= packing.MAX_SYMBOLS
    or not all(isinstance(s, list) and len(s) == 2 for s in value)
  ):
    raise ValueError("structures are no pairs")
  for number in sum(value, []):
    _check_number("structures", number, 1, 2**31)
  if len(value) == 1:
    return (Stream("index", value[0][0]),)
  return (
    Stream("book", len(value), coding="entropy"),
    *(Stream(f"index_{i}", size) for i, (size, _) in enumerate(value)),
  )


def _check_number(field: str, number: Any, lowest: int, end: int) -> None:
  if type(number) is not int or not lowest <= number < end:
    raise ValueError(f"{field} is {number!r:.99}")
