"""The paper's model of the loss as a function of N (appendix A.2)."""

from collections.abc import Sequence
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LossFit:
  """A least-squares fit of L(N) = a / N + b N + c.

  Attributes:
    quantization: a, which is V of eq. 12.
    representation: b, which is alpha K / beta of eq. 12.
    constant: c, 0 for a fit without a constant, as in the paper.
    optimal_size: the N that minimizes the fit, sqrt(quantization /
      representation) (eq. 15); NaN where the fit has no minimum above 0.
    r_squared: the share of the losses' variance that the fit explains, at most
      1; negative where their mean fits better.
  """

  quantization: float
  representation: float
  constant: float
  optimal_size: float
  r_squared: float

  def __call__(self, codebook_size: np.ndarray | float) -> np.ndarray | float:
    """Returns the fitted loss at N."""
    return (
      self.quantization / codebook_size
      + self.representation * codebook_size
      + self.constant
    )


@dataclasses.dataclass(frozen=True)
class OptimalCodebookSize:
  """The paper's fit, and one with a constant.

  Attributes:
    fit: the fit of L(N) = a / N + b N (eqs. 11 and 12).
    fit_with_constant: the fit of L(N) = a / N + b N + c, where c is a loss that
      remains with every codebook.
  """

  fit: LossFit
  fit_with_constant: LossFit


def optimal_codebook_size(
  codebook_sizes: Sequence[float], losses: Sequence[float]
) -> OptimalCodebookSize:
  """Fits the loss of eqs. 11-15 to measured losses at constant N x D.

  Args:
    codebook_sizes: N of each run, positive, at least three different ones.
    losses: the loss of each run, finite.

  Returns:
    Least-squares fits with and without a constant, in float64.

  Raises:
    ValueError: if the lengths differ, if there are fewer than three different
      sizes, or if a size is not positive or a loss not finite.

  Example:
    >>> from adq_jax import optimal_codebook_size
    >>> sizes = [256, 1024, 4096]
    >>> losses = [2048 / n + n / 512 for n in sizes]
    >>> round(optimal_codebook_size(sizes, losses).fit.optimal_size)
    1024
  """
  sizes = np.asarray(codebook_sizes, np.float64)
  values = np.asarray(losses, np.float64)
  if sizes.ndim != 1 or sizes.shape != values.shape:
    raise ValueError(
      f"codebook_sizes and losses have shapes {sizes.shape} and"
      f" {values.shape}; they must be two lists of one length"
    )
  if not (np.isfinite(sizes).all() and (sizes > 0).all()):
    raise ValueError(f"codebook_sizes are {sizes}; they must be positive")
  if not np.isfinite(values).all():
    raise ValueError(f"losses are {values}; they must be finite")
  if len(np.unique(sizes)) < 3:
    raise ValueError(
      f"codebook_sizes are {sizes}; a fit with a constant needs at least"
      " three different ones"
    )
  return OptimalCodebookSize(
    fit=_fit(sizes, values, with_constant=False),
    fit_with_constant=_fit(sizes, values, with_constant=True),
  )


def _fit(sizes: np.ndarray, losses: np.ndarray, with_constant: bool) -> LossFit:
  terms = [1 / sizes, sizes] + [np.ones_like(sizes)] * with_constant
  # Scaled alike, since 1 / N and N are up to nine decades apart.
  scales = np.array([np.linalg.norm(term) for term in terms])
  columns = np.stack(terms, axis=1) / scales
  solution = np.linalg.lstsq(columns, losses)[0]
  residuals = losses - columns @ solution
  a, b, *constant = solution / scales
  deviations = losses - losses.mean()
  total = deviations @ deviations
  return LossFit(
    quantization=float(a),
    representation=float(b),
    constant=float(constant[0]) if with_constant else 0.0,
    optimal_size=float(np.sqrt(a / b)) if a > 0 and b > 0 else float("nan"),
    r_squared=float(1 - residuals @ residuals / total) if total else 1.0,
  )
