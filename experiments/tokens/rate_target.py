"""What images are encoded at: a price of bits, or one that meets a target."""

from collections.abc import Callable
import dataclasses
import math

from adq_jax import VQVAE
from experiments.errors import UserError
from experiments.runs.frequencies import Frequencies

PRICE, BITS, PSNR = "rate_weight", "bits_per_pixel", "psnr"
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

  def check(self, model: VQVAE, known: Frequencies | None) -> None:
    """Raises a UserError unless a model can be asked for it.

    Args:
      model: of a run.
      known: the frequencies of its codes.
    """
    if not model.has_price:
      raise UserError(
        f"--{self.flag} is for a model with a price of bits, which this one"
        " has not; leave it out"
      )
    if self.flag != PRICE and (known is None or len(known.prices) < 2):
      raise UserError(
        f"--{self.flag} needs the frequencies of codes at several prices,"
        " which this run does not have; give --rate_weight"
      )

  def find_price(
    self, measure: Callable[[float], float], lowest: float, highest: float
  ) -> float:
    """Returns the price that meets the target.

    It is found by bisection.  Of bits it takes at most the target, and of PSNR
    it reaches at least that.

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
      raise UserError(
        f"--{self.flag} is {self.value:g}; with this model these images take"
        f" {least:.4g} to {most:.4g}"
      )
    for _ in range(_ROUNDS):
      middle = math.sqrt(lowest * highest)
      found = measure(middle)
      if found > self.value:
        lowest = middle
      else:
        highest = middle
      is_met = found <= self.value if self.flag == BITS else found > self.value
      if is_met and abs(found - self.value) <= _CLOSE * self.value:
        return middle
    return highest if self.flag == BITS else lowest
