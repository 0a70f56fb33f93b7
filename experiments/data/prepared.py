"""Reads data sets that TFDS has prepared, into memory or on demand."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import hashlib
import itertools
import os
import pathlib
from typing import Any

import grain
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from experiments.data import decoded_file
from experiments.data import images
from experiments.data import pipeline
from experiments.data import preparation
from experiments.data.builder import ArchiveBuilder
from experiments.data.split import Images
from experiments.data.split import Split
from experiments.errors import one_line
from experiments.errors import UserError

_DECODERS = {"image": tfds.decode.SkipDecoding()}  # `images.decode` does it
_DECODED_AT_ONCE = 2**23  # bytes
_TELL_AFTER_SECONDS = 2
_REMEDY = (
  "move the directory away, to have it prepared again, or name another with"
  " --config.data.data_dir=DIR"
)
_GIB = 2**30


def load(
  builder_class: type[ArchiveBuilder],
  config: ml_collections.ConfigDict,
  builder_config: tfds.core.BuilderConfig | None = None,
  *,
  is_resizable: bool = False,
) -> dict[str, Split]:
  """Returns the splits "train" and "validation", preparing them if need be.

  A split is decoded into memory, once for all runs: the decoded images are
  kept in a file beside the records, named after the records' state.  The images
  of a split that exceeds `config.memory_budget_gib` are decoded on demand.

  Args:
    builder_class: the builder of the data set.
    config: `config.data` of an experiment.
    builder_config: the builder's, where it has any.
    is_resizable: whether images become squares of `config.resize_to`, or else
      of `config.image_size`, pixels a side; others stay as they are.

  Raises:
    UserError: if `config` asks for images that there are not, archives are
      missing or damaged, or cannot be downloaded, or the data directory cannot
      be written or is damaged.
  """
  builder = _make(builder_class, config, builder_config)
  resize_to = _check_sizes(builder, config, is_resizable)
  if not builder.data_path.exists():
    preparation.prepare(builder, config.manual_dir)
    # One made before cannot read what another process has prepared.
    builder = _make(builder_class, config, builder_config)
  splits = {}
  for name, (split, count) in zip(
    ("train", "validation"), builder.SPLITS.items(), strict=True
  ):
    records = Records(builder, split, count, resize_to)
    fits = np.prod(records.shape) <= config.memory_budget_gib * _GIB
    splits[name] = Split(
      _in_memory(records) if fits else records, np.zeros(count, np.int32)
    )
  return splits


def _make(
  builder_class: type[ArchiveBuilder],
  config: ml_collections.ConfigDict,
  builder_config: tfds.core.BuilderConfig | None,
) -> ArchiveBuilder:
  if "://" in config.data_dir:
    raise UserError(
      f"config.data.data_dir is {config.data_dir!r}; it must be a directory of"
      " this machine"
    )
  data_dir = os.path.expanduser(config.data_dir) or None
  try:
    return builder_class(data_dir=data_dir, config=builder_config)
  except Exception as error:  # it reads the prepared files
    raise UserError(
      f"{data_dir or tfds.core.constants.DATA_DIR}/{builder_class.name} is"
      f" damaged ({one_line(error)}); {_REMEDY}"
    ) from error


def _check_sizes(
  builder: ArchiveBuilder,
  config: ml_collections.ConfigDict,
  is_resizable: bool,
) -> int:
  """Returns the size that images are resized to, 0 for none."""
  height, width, channels = builder.info.features["image"].shape
  what = f"images of {builder.name} are {height} x {width}"
  if config.channels != channels:
    raise UserError(
      f"config.data.channels is {config.channels}; images of {builder.name}"
      f" have {channels}"
    )
  largest, resize_to = min(height, width), 0
  if is_resizable:
    resize_to = config.resize_to or config.image_size
    if config.resize_to > largest:
      raise UserError(
        f"config.data.resize_to is {resize_to}; {what}, and it must be at most"
        f" {largest}"
      )
    if config.resize_to:
      what = f"config.data.resize_to is {resize_to}"
      largest = resize_to
  if config.image_size > largest:
    raise UserError(
      f"config.data.image_size is {config.image_size}; {what}, and it must be"
      f" at most {largest}"
    )
  return resize_to


class Records:
  """A split's images, which are read and decoded on demand."""

  def __init__(
    self, builder: ArchiveBuilder, split: str, count: int, resize_to: int
  ):
    self.name = f"{builder.name} {split}"
    self._directory = builder.data_path
    self._split = split
    self._resize_to = resize_to
    with self._reading():
      self._source = _open(builder, split)
      found = len(self._source)
    if found != count:
      raise UserError(
        f"{self._directory} has {found} images in the split {split}; it must"
        f" have {count}: {_REMEDY}"
      )
    height, width, channels = builder.info.features["image"].shape
    self.shape = (count, resize_to or height, resize_to or width, channels)

  def __getitem__(self, indices: np.ndarray) -> np.ndarray:
    with self._reading():
      examples = self._source.__getitems__(np.asarray(indices).tolist())
      return np.stack(
        [
          images.decode(example["image"], self.shape[-1], self._resize_to)
          for example in examples
        ]
      )

  @property
  def decoded_file(self) -> pathlib.Path:
    """The file of the decoded images; another state of records has another."""
    state = hashlib.sha256()
    for path in sorted(self._directory.glob(f"*-{self._split}.*")):
      status = os.stat(path)
      state.update(
        f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode()
      )
    shape = "x".join(map(str, self.shape[1:]))
    return pathlib.Path(
      self._directory / f"{self._split}_{shape}_{state.hexdigest()[:16]}.npy"
    )

  @contextlib.contextmanager
  def _reading(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # of TFDS, ArrayRecord and PIL
      raise UserError(
        f"{self._directory} is damaged, split {self._split}"
        f" ({one_line(error)}); {_REMEDY}"
      ) from error


def _open(builder: ArchiveBuilder, split: str) -> Sequence[dict[str, Any]]:
  try:
    return builder.as_data_source(split=split, decoders=_DECODERS)
  except NotImplementedError:  # prepared by somebody else, in another format
    return _TFRecords(builder, split)


class _TFRecords:
  """Records that TFDS wrote with TensorFlow, held in memory undecoded."""

  def __init__(self, builder: ArchiveBuilder, split: str):
    self._features = builder.info.features
    self._records = list(
      itertools.chain.from_iterable(
        grain.experimental.TFRecordIterDataset(str(path))
        for path in builder.info.splits[split].filepaths
      )
    )

  def __len__(self) -> int:
    return len(self._records)

  def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
    return [
      self._features.deserialize_example_np(
        self._records[i], decoders=_DECODERS
      )
      for i in indices
    ]


def _in_memory(records: Records) -> Images:
  path = records.decoded_file
  kept = decoded_file.read(path, records.shape)
  if kept is not None:
    return kept
  decoded = np.empty(records.shape, np.uint8)
  at_once = max(1, _DECODED_AT_ONCE // int(np.prod(records.shape[1:])))
  batches = pipeline.EvalBatches(records, min(at_once, len(decoded)))
  with tqdm.tqdm(
    total=len(decoded),
    desc=f"Decoding {records.name}",
    unit="image",
    delay=_TELL_AFTER_SECONDS,
    disable=None,  # where there is no terminal
  ) as progress:
    for batch, indices, mask in pipeline.iterate(batches):
      count = int(mask.sum())
      decoded[indices[:count]] = batch[:count]
      progress.update(count)
  decoded_file.write(path, decoded)
  _remove_older(path)
  return decoded


def _remove_older(path: pathlib.Path) -> None:
  """Removes files of other states of the records, and of failed writes."""
  kind = path.name.rpartition("_")[0]
  for older in path.parent.glob(f"{kind}_*.npy*"):
    if older != path:
      with contextlib.suppress(OSError):
        older.unlink()
