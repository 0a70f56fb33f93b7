"""The header of a token file, which describes it; see `token_file`."""

from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from adq_jax import Stream
from experiments import files
from experiments.tokens import packing

VERSION = 2

_MAX_STREAMS = 512
_OF_STREAM = ("name", "alphabet", "stride", "coding")


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
  version: int = VERSION

  def is_of(self, streams: Sequence[Stream]) -> bool:
    """Returns whether a model with these streams may have written it."""
    if self.version > 1:
      return self.streams == bare(streams)
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
    return json.dumps(fields).encode()


def bare(streams: Sequence[Stream]) -> tuple[Stream, ...]:
  """Returns streams with only the fields that reading a file needs."""
  return tuple(
    Stream(**{name: getattr(stream, name) for name in _OF_STREAM})
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
  if version == 1:
    streams = _streams_of_structures(others.pop("structures", None))
  else:
    streams = _streams(others.pop("streams", None))
  header = Header(streams=streams, **{**others, "version": version})
  if "version" in others:
    raise ValueError("it has a version of its own")
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


def _streams(value: Any) -> tuple[Stream, ...]:
  """Returns the streams of a header of version 2."""
  if not isinstance(value, list) or not 1 <= len(value) <= _MAX_STREAMS:
    raise ValueError("its streams are no list of streams")
  for fields in value:
    if not isinstance(fields, dict) or set(fields) != set(_OF_STREAM):
      raise ValueError("a stream has other fields")
    files.check_name(fields["name"])
    is_coded = fields["coding"] == "entropy"
    most = packing.MAX_SYMBOLS if is_coded else 2**31 - 1
    _check_number("alphabet", fields["alphabet"], 1, most + 1)
    _check_number("stride", fields["stride"], 1, 2**16)
  return tuple(Stream(**fields) for fields in value)


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
