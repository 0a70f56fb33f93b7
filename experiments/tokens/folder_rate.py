"""What a folder of images takes at a price: bits, and error."""

from collections.abc import Callable
import math

import jax.numpy as jnp
import numpy as np

from adq_jax import VQVAE
from adq_jax.streams import sent_streams
from adq_jax.streams import symbols
from experiments.data import augment
from experiments.runs import frequencies
from experiments.runs.frequencies import Frequencies
from experiments.tokens import rate_target
from experiments.tokens.image_folder import Batches
from experiments.tokens.mapped import Mapped


def make_measure(
  model: VQVAE,
  variables: dict,
  known: Frequencies,
  batches: Batches,
  skip_bad: bool,
  flag: str,
) -> Callable[[float], float]:
  """Returns what measures the images of a folder at a price.

  What measures raises a UserError as `Batches.read` does.

  Args:
    model: with a price.
    variables: its variables, with the frequencies of codes.
    known: these frequencies.
    batches: the images.
    skip_bad: whether to leave out files that cannot be encoded.
    flag: `rate_target.BITS` or `rate_target.PSNR`.
  """
  of_streams = symbols(model.streams)
  has_error = flag == rate_target.PSNR

  def run(variables, batch):
    images, prices = batch
    images = augment.to_float(images)
    codes = model.apply(variables, images, rate_weight=prices, method="encode")
    values, masks = sent_streams(model, codes)
    sent = [
      jnp.where(masks[symbol.members[0]], symbol.join(values), -1)
      for symbol in of_streams
    ]
    if not has_error:
      return sent, ()
    decoded = model.apply(variables, codes, method="decode")
    # As pixels are written: rounded, and cut to the range of bytes.
    error = jnp.square(augment.to_float(augment.to_uint8(decoded)) - images)
    return sent, error.reshape(len(error), -1).sum(axis=1)

  mapped = Mapped(run, variables)

  def measure(price: float) -> float:
    tables = known.mixed(*known.at(price))
    counts = [np.zeros(symbol.alphabet) for symbol in of_streams]
    pixels, numbers, squares = 0, 0, 0.0
    about = f"Price {price:.3g}"
    for names, images, _ in batches.read(about, skip_bad=skip_bad, stays=False):
      if not names:
        continue
      prices = np.full(len(images), price, np.float32)
      sent, error = mapped((images, prices))
      for own, count in zip(sent, counts, strict=True):
        count += np.bincount(own[own >= 0], minlength=len(count))
      pixels += math.prod(images.shape[:3])
      numbers += images.size
      squares += float(np.sum(error, dtype=np.float64))
    if has_error:
      return 10 * math.log10(numbers / max(squares, 1e-9))
    bits = zip(counts, tables, strict=True)
    return sum(frequencies.bits(*pair) for pair in bits) / pixels

  return measure
