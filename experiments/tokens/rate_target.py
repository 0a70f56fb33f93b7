"""What images are encoded at: a price of bits, or one that meets a target."""

from collections.abc import Callable
import dataclasses
import math

from adq_jax import VQVAE
from experiments.errors import UserError
from experiments.runs.frequencies import Frequencies

PRICE, BITS, PSNR = "rate_weight", "bits_per_pixel", "psnr"
_MOST_PRICE = 1e30  # whose products with widths and bits float32 holds
_ROUNDS = 12
_CLOSE = 0.002  # to a target, as a share of it


@dataclasses.dataclass(frozen=True)
class Target:
  """What the command line asks for.

  Attributes:
    flag: `PRICE`, what a bit costs; `BITS`, coded bits for each pixel; or
      `PSNR`, in dB.
    value: of that flag.
  """

  flag: str
  value: float

  def __post_init__(self):
    if not (math.isfinite(self.value) and self.value >= 0):
      raise UserError(
        f"--{self.flag} is {self.value}; it must be finite and 0 or more"
      )
    if self.flag == PRICE and self.value > _MOST_PRICE:
      raise UserError(
        f"--{self.flag} is {self.value}; it must be at most {_MOST_PRICE}"
      )

  def check_model(self, model: VQVAE) -> None:
    """Raises a UserError if a model has no price that could be chosen."""
    if not model.has_price:
      raise UserError(
        f"--{self.flag} is for a model with a price of bits, which this one"
        " has not; leave it out"
      )

  def check_frequencies(self, known: Frequencies | None) -> None:
    """Raises a UserError if no price can be looked for with frequencies.

    Args:
      known: those of the codes of a run's model.
    """
    if self.flag != PRICE and (known is None or len(known.prices) < 2):
      raise UserError(
        f"--{self.flag} needs the frequencies of codes at several prices,"
        " which this run does not have; give --rate_weight"
      )

  def find_price(
    self, measure: Callable[[float], float], lowest: float, highest: float
  ) -> float:
    """Returns the price that meets the target.

    That is the lowest with at most so many bits, or the highest with at least
    such a PSNR, up to 0.2% of the target.  It is found by bisection of the
    price's logarithm.

    Args:
      measure: returns what a price makes of the images; of a higher price it is
        less.
      lowest: the lowest price, above 0.
      highest: the highest.

    Raises:
      UserError: if no price in between meets it.
    """
    most, least = measure(lowest), measure(highest)
    if not least <= self.value <= most:
      # Rounded inwards, so that what the line names can be met.
      least, most = math.ceil(least * 1e4) / 1e4, math.floor(most * 1e4) / 1e4
      raise UserError(
        f"--{self.flag} is {self.value:g}; with this model and these images it"
        f" can be {least:g} to {most:g}"
      )
    met, missed = highest, lowest
    if self.flag == PSNR:
      met, missed = lowest, highest
    for _ in range(_ROUNDS):
      middle = math.sqrt(met * missed)
      found = measure(middle)
      beyond = found - self.value
      if (beyond >= 0) if self.flag == PSNR else (beyond <= 0):
        met = middle
        if abs(beyond) <= _CLOSE * self.value:
          break
      else:
        missed = middle
    return met
