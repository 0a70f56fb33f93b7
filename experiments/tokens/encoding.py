"""Images to token files, with a trained model."""

from collections.abc import Callable
import functools
import pathlib

import ml_collections
import numpy as np

from adq_jax import VQVAE
from adq_jax.streams import nominal_rate
from adq_jax.streams import sent_streams
from adq_jax.streams import symbols
from experiments.data import augment
from experiments.data import walk
from experiments.model import build
from experiments.model import rate_weights
from experiments.model.state import TrainState
from experiments.runs import frequencies
from experiments.runs.checkpoints import load_state
from experiments.tokens import checks
from experiments.tokens import file_header
from experiments.tokens import folder_rate
from experiments.tokens import image_folder as folders
from experiments.tokens import model_identity
from experiments.tokens import output_place
from experiments.tokens import rate_target
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from experiments.tokens.mapped import Mapped
from experiments.tokens.rate_target import Target


def encode(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  folder: pathlib.Path,
  output: pathlib.Path,
  *,
  crop: bool = False,
  skip_bad: bool = False,
  target: Target | None = None,
) -> None:
  """Writes the codes of all images in a folder, and those in it, to a file.

  Images keep their size.  All local devices encode them, those of one size
  together.

  Args:
    config: the config of a run.
    workdir: the directory of the run, whose latest checkpoint encodes.
    folder: the folder of the images, which are read in the colours that a
      viewer shows.
    output: the token file; there must be none yet.
    crop: whether to cut images, at all edges alike, to sides that are multiples
      of the model's downsampling.
    skip_bad: whether to leave out, and list, files that cannot be encoded.
    target: the rate that is asked for, of a model with a price of bits; by
      default the middle of the prices that it was trained for.

  Raises:
    UserError: if there is no model or no image, the target cannot be met, or
      the file cannot be written; or unless `skip_bad`, naming all of them, if
      images are damaged, too large or of sides or a name that cannot be
      encoded, or folders or links below cannot be read.
  """
  checks.check_request(config, workdir, output)
  output_place.check_outside(output, folder)
  if target is not None:
    target.check_model(build.create_model(config))
  batches = _find_images(config, folder, crop, skip_bad)
  model, state = load_state(config, workdir)
  checks.check_streams(model)
  of_streams = symbols(model.streams)
  known = frequencies.read(workdir, int(state.step), of_streams)
  if target is not None:
    target.check_frequencies(known)
  variables = frequencies.with_tables(state.variables, known, model)
  make_measure = functools.partial(
    folder_rate.make_measure, model, variables, known, batches, skip_bad
  )
  price = _price(config, known, target, make_measure)
  encode_batch = Mapped(
    lambda variables, batch: sent_streams(
      model,
      model.apply(
        variables,
        augment.to_float(batch[0]),
        rate_weight=batch[1],
        method="encode",
      ),
    ),
    variables,
  )
  header = _header(config, model, state, batches.num_images, known, price)
  with (
    output_place.replacing(output) as temporary,
    open(temporary, "x+b") as file,
  ):
    tally = _Tally(token_file.Writer(file, header, known), model)
    left_out = _write(tally, batches, encode_batch, price, skip_bad)
    tally.writer.finish()
  batches.say_left_out(left_out)
  num_bad = len(batches.bad) + len(left_out)
  print(
    f"{walk.printable(output)}: {tally.writer.num_images} images,"
    f"{f' {num_bad} files left out,' * (num_bad > 0)}"
    f"{'' if price is None else f' at price {price:.3g},'}"
    f" {tally.text(output.stat().st_size)}"
  )


def _find_images(
  config: ml_collections.ConfigDict,
  folder: pathlib.Path,
  crop: bool,
  skip_bad: bool,
) -> folders.Batches:
  """Returns the images of a folder; lists the files that are left out."""
  batches = folders.Batches(
    folder, config.model.downsampling, config.data.channels, crop
  )
  if batches.bad and not (skip_bad and batches.num_images):
    raise batches.refusal([])
  batches.say_left_out(batches.bad)
  return batches


def _price(
  config: ml_collections.ConfigDict,
  known: frequencies.Frequencies | None,
  target: Target | None,
  make_measure: Callable[[str], Callable[[float], float]],
) -> float | None:
  """Returns the price to encode at; None: what the quantizer's field says.

  Args:
    config: of the run.
    known: the frequencies of its model's codes.
    target: what is asked for.
    make_measure: for a target's flag, returns what measures images at a price.
  """
  if target is None:
    return rate_weights.middle(config)
  if target.flag == rate_target.PRICE:
    return target.value
  return target.find_price(
    make_measure(target.flag), *known.prices[[0, -1]].tolist()
  )


def _header(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  state: TrainState,
  num_images: int,
  known: frequencies.Frequencies | None,
  price: float | None,
) -> file_header.Header:
  """Returns the header of a file with the codes of a model."""
  tables = None
  if known is not None:
    tables = file_header.Tables(known.sha256, *known.at(price or 0.0))
  return file_header.Header(
    name=config.name,
    variant=config.variant,
    step=int(state.step),
    model=model_identity.compute(model, state.variables),
    streams=file_header.bare(model.streams),
    channels=config.data.channels,
    downsampling=config.model.downsampling,
    num_images=num_images,
    tables=tables,
  )


def _write(
  tally: "_Tally",
  batches: folders.Batches,
  encode_batch: Mapped,
  price: float | None,
  skip_bad: bool,
) -> list[walk.Bad]:
  """Writes the codes of all batches; returns the files that are left out.

  Raises:
    UserError: if no image is left, or unless `skip_bad`, if a file is bad.
  """
  left_out = []
  for names, images, bad in batches.read("Encoding", skip_bad=skip_bad):
    left_out += bad
    if names:
      prices = price
      if price is not None:
        prices = np.full(len(images), price, np.float32)
      tally.write(names, images, *encode_batch((images, prices)))
  return left_out


class _Tally:
  """Writes codes, and counts them.

  Attributes:
    writer: the writer of the token file.
  """

  def __init__(self, writer: token_file.Writer, model: VQVAE):
    """Writes codes of a model to `writer`."""
    self.writer = writer
    self._symbols = symbols(model.streams)
    self._factor = model.downsampling
    self._counts = [np.zeros(symbol.alphabet) for symbol in self._symbols]
    self._positions = 0

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
    self.writer.write(Chunk(names, height, width, codes))
    for symbol, counts in zip(self._symbols, self._counts, strict=True):
      joined = symbol.join(codes)
      counts += np.bincount(joined, minlength=symbol.alphabet)
    self._positions += len(names) * height * width

  def text(self, size: int) -> str:
    """Returns what a file of so many bytes takes, and what rates promise."""
    nominal = nominal_rate(self._symbols, self._counts, self._positions)
    rates = {"nominal rate": float(nominal)}
    if self.writer.tables is not None:
      pairs = zip(self._counts, self.writer.tables, strict=True)
      total = sum(frequencies.bits(*pair) for pair in pairs)
      rates["coded rate"] = total / self._positions
    promised = ", ".join(f"{name} {rate:.3f}" for name, rate in rates.items())
    bits = 8 * size / self._positions
    return (
      f"{self._positions} positions, {bits:.3f} bits/position ({promised}),"
      f" {bits / self._factor**2:.4f} bits/pixel, {size} bytes,"
      f" {self.writer.name_bytes} of them for names"
    )
