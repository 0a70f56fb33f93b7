"""Images to token files and back, with a trained model; see `tokens`."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image
import tqdm

from adq_jax import VQVAE
from adq_jax.streams import nominal_rate
from adq_jax.streams import sent_streams
from adq_jax.streams import symbols
from experiments.data import augment
from experiments.data import images as image_files
from experiments.data import pipeline
from experiments.data import walk
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.model import check
from experiments.processes import signals
from experiments.processes.devices import AXIS
from experiments.processes.devices import replicate
from experiments.processes.devices import shard
from experiments.processes.devices import unshard
from experiments.runs import checkpoint_file
from experiments.runs import config_changes
from experiments.runs.checkpoints import load_state
from experiments.tokens import file_header
from experiments.tokens import image_folder as folders
from experiments.tokens import model_identity
from experiments.tokens import packing
from experiments.tokens import token_file


def encode(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  folder: pathlib.Path,
  output: pathlib.Path,
  *,
  crop: bool = False,
  skip_bad: bool = False,
) -> None:
  """Writes the codes of all images in a folder, and those in it, to a file.

  They are encoded at their own size, those of one size together, by all local
  devices.

  Args:
    config: of a run.
    workdir: of the run, whose latest checkpoint encodes.
    folder: of the images, in the colours that a viewer shows.
    output: the token file; there must be none yet.
    crop: whether to cut images, at all edges alike, to sides that are multiples
      of the model's downsampling.
    skip_bad: whether to leave out, and list, files that cannot be encoded.

  Raises:
    UserError: if there is no model or no image, or the file cannot be written;
      or unless `skip_bad`, naming all of them, if images are damaged, too large
      or of sides or a name that cannot be encoded, or folders or links below
      cannot be read.
  """
  _check(config, workdir, output)
  _check_outside(output, folder)
  factor = config.model.downsampling
  batches = folders.Batches(folder, factor, config.data.channels, crop)
  if batches.bad and not (skip_bad and batches.num_images):
    raise batches.refusal([])
  batches.say_left_out(batches.bad)
  model, state = load_state(config, workdir)
  _check_streams(model)
  header = file_header.Header(
    name=config.name,
    variant=config.variant,
    step=int(state.step),
    model=model_identity.compute(model, state.variables),
    streams=file_header.bare(model.streams),
    channels=config.data.channels,
    downsampling=factor,
    num_images=batches.num_images,
  )
  mapped = _Mapped(
    lambda variables, images: sent_streams(
      model, model.apply(variables, augment.to_float(images), method="encode")
    ),
    state.variables,
  )
  with (
    _replacing(output) as temporary,
    open(temporary, "x+b") as file,
    _progress("Encoding", batches.num_images) as progress,
  ):
    tally = _Tally(token_file.Writer(file, header), model)
    left_out = []
    for number, (names, images, bad) in enumerate(pipeline.iterate(batches)):
      if bad and not skip_bad:
        raise batches.refusal(bad, number + 1)
      left_out += bad
      if names:
        tally.write(names, images, *mapped(images))
      progress.update(len(names) + len(bad))
    if not tally.writer.num_images:
      raise batches.refusal(left_out, len(batches))
    tally.writer.finish()
  batches.say_left_out(left_out)
  num_bad = len(batches.bad) + len(left_out)
  print(
    f"{walk.printable(output)}: {tally.writer.num_images} images,"
    f"{f' {num_bad} files left out,' * (num_bad > 0)}"
    f" {tally.text()}, {output.stat().st_size} bytes"
  )


class _Tally:
  """Writes codes, and adds up what they take.

  Attributes:
    writer: of the token file.
  """

  def __init__(self, writer: token_file.Writer, model: VQVAE):
    """Writes codes of a model to `writer`."""
    self.writer = writer
    self._symbols = symbols(model.streams)
    self._factor = model.downsampling
    self._counts = [np.zeros(symbol.alphabet) for symbol in self._symbols]
    self._positions = 0
    self._bytes = 0

  def write(
    self,
    names: tuple[str, ...],
    images: np.ndarray,
    values: tuple[np.ndarray, ...],
    masks: tuple[np.ndarray, ...],
  ) -> None:
    """Writes the codes of images; the last two are those of `sent_streams`."""
    height, width = (side // self._factor for side in images.shape[1:3])
    codes = tuple(
      value[is_sent] for value, is_sent in zip(values, masks, strict=True)
    )
    self._bytes += self.writer.write(
      token_file.Chunk(names, height, width, codes)
    )
    for symbol, counts in zip(self._symbols, self._counts, strict=True):
      joined = symbol.join(codes)
      counts += np.bincount(joined, minlength=symbol.alphabet)
    self._positions += len(names) * height * width

  def text(self) -> str:
    """Returns the number of positions, and the bits that they take."""
    promised = float(nominal_rate(self._symbols, self._counts, self._positions))
    return (
      f"{self._positions} positions,"
      f" {8 * self._bytes / self._positions:.3f}"
      f" bits/position (nominal rate {promised:.3f})"
    )


def decode(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  path: pathlib.Path,
  output: pathlib.Path,
) -> None:
  """Writes the images of a token file to a folder, as PNG files.

  Args:
    config: of a run.
    workdir: of the run that encoded them, with the checkpoint that did.
    path: the token file.
    output: the folder; there must be none yet.

  Raises:
    UserError: if the file is damaged or of another model, or the folder cannot
      be written.
  """
  _check(config, workdir, output)
  reader = token_file.Reader(path)
  header = reader.header
  there = checkpoint_file.steps_of(workdir)
  model, state = load_state(
    config, workdir, header.step if header.step in there else None
  )
  _check_streams(model)
  if not model_identity.matches(header.model, workdir, model, state.variables):
    raise UserError(
      f"token file {path} is of another model, {header.name!r}"
      f" {header.variant!r} at step {header.step}, than {workdir} holds"
      f" (checkpoints of steps {there}); name its run with --workdir=DIR"
    )
  factor = config.model.downsampling
  if not header.is_of(model.streams) or header.downsampling != factor:
    raise reader.damaged("its header is not that of its model")
  mapped = _Mapped(
    lambda variables, codes: augment.to_uint8(
      model.apply(variables, codes, method="decode")
    ),
    state.variables,
  )
  count = 0
  with (
    _replacing(output) as temporary,
    _progress("Decoding", header.num_images) as progress,
  ):
    temporary.mkdir()
    for chunk in reader:
      images = mapped(_to_codes(model, reader, chunk))
      for name, image in zip(chunk.names, images, strict=True):
        place = temporary / folders.decoded_name(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
          file.write(image_files.to_png(Image.fromarray(image.squeeze())))
      count += len(images)
      progress.update(len(images))
  print(f"{walk.printable(output)}: {count} images")


class _Mapped:
  """A function of variables and a batch, computed by all local devices."""

  def __init__(self, function: Callable[..., Any], variables: Any):
    devices = jax.local_devices()
    self._count = len(devices)
    self._variables = replicate(variables, devices)
    self._function = jax.pmap(function, AXIS, devices=devices)
    self._sizes = {}

  def __call__(self, batch: Any) -> Any:
    """Arrays `[n, ...]` of a batch -> NumPy arrays `[n, ...]`.

    A batch is filled up to the largest that had its shape: each size is
    compiled by itself.
    """
    leaves = jax.tree.leaves(batch)
    n, shape = len(leaves[0]), leaves[0].shape[1:]
    size = max(self._sizes.get(shape, 0), -(-n // self._count) * self._count)
    self._sizes[shape] = size
    rows = np.minimum(np.arange(size), n - 1)
    shards = jax.tree.map(lambda x: shard(x[rows], self._count), batch)
    results = self._function(self._variables, shards)
    return jax.tree.map(lambda x: unshard(x)[:n], results)


def _to_codes(
  model: VQVAE, reader: token_file.Reader, chunk: token_file.Chunk
) -> Any:
  """The model's codes of a chunk, what is not sent of them 0."""
  values = []
  for k, (stream, codes) in enumerate(
    zip(model.streams, chunk.codes, strict=True)
  ):
    grid = (chunk.height // stream.stride, chunk.width // stream.stride)
    value = np.zeros((len(chunk.names), *grid), np.int32)
    is_sent = model.sent(k, [jnp.asarray(earlier) for earlier in values])
    if is_sent is None:
      is_sent = np.ones(value.shape, bool)
    if np.count_nonzero(is_sent) != len(codes):
      raise reader.damaged(f"{stream.name} has another number of codes")
    value[np.asarray(is_sent)] = codes
    values.append(value)
  return jax.tree.map(np.asarray, model.from_streams(values))


def _check_streams(model: VQVAE) -> None:
  """Refuses a model whose codes no file can hold."""
  if not model.streams:
    name = type(model.quantizer).__name__
    raise UserError(
      f"the model's quantizer is a {name}, whose codes are not finite in"
      " number; take a run with another quantizer"
    )
  for stream in model.streams:
    most = packing.MAX_SYMBOLS
    if stream.coding == "entropy" and stream.alphabet > most:
      raise UserError(
        f"the model's {stream.name} has an alphabet of {stream.alphabet}; a"
        f" token file takes at most {most} of what it codes by entropy"
      )


def _check(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, output: pathlib.Path
) -> None:
  """Refuses what cannot work before anything begins."""
  if jax.process_count() > 1:
    raise UserError(
      "--mode=encode and --mode=decode are for one process; start one, without"
      " --num_processes"
    )
  check.check(config)
  config_changes.check_same_run(workdir, config)
  with _replacing(output, is_trial=True):
    pass


def _check_outside(output: pathlib.Path, folder: pathlib.Path) -> None:
  """Refuses to write among the images, where the next encoding would look."""
  place, images = map(os.path.realpath, (output.parent, folder))
  if pathlib.Path(place).is_relative_to(images):
    raise UserError(
      f"{output} is in {folder}, the folder of the images; name a place"
      " elsewhere with --output"
    )


@contextlib.contextmanager
def _replacing(
  output: pathlib.Path, *, is_trial: bool = False
) -> Iterator[pathlib.Path]:
  """Gives a place to what becomes `output` when it is whole.

  It is in a new directory on the same disk, so that it can have its own name,
  as long as names may be, and nothing that is there is in its way.

  Args:
    output: a file or a folder.
    is_trial: whether only to find out if it can be written.
  """
  directory = None
  try:
    _check_absent(output)
    directory = tempfile.mkdtemp(
      prefix=f"{output.name[:20]}.", suffix=".tmp", dir=output.parent
    )
    temporary = pathlib.Path(directory) / output.name
    yield temporary
    if not is_trial:
      _check_absent(output)
      os.rename(temporary, output)
  except OSError as error:
    reason = error.strerror or one_line(error)
    raise UserError(
      f"{output} cannot be written ({reason}); make room, or name another"
      " place with --output"
    ) from error
  finally:
    if directory:
      with signals.postponed():
        shutil.rmtree(directory, ignore_errors=True)


def _check_absent(output: pathlib.Path) -> None:
  if not output.parent.is_dir():
    raise UserError(
      f"{output} cannot be written ({output.parent} is no directory); make it"
      " first, or name another place with --output"
    )
  try:
    os.lstat(output)
  except FileNotFoundError:
    return
  raise UserError(f"{output} exists already; name another with --output")


def _progress(what: str, count: int) -> tqdm.tqdm:
  # Nothing where there is no terminal.
  return tqdm.tqdm(total=count, desc=what, unit="image", disable=None)
