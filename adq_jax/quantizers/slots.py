"""The slots that quantizers with codebooks have."""

from typing import Any

from adq_jax.codebook import placement as placements
from adq_jax.codebook import updates
from adq_jax.options import check_option
from adq_jax.quantizers import codewords as of_codewords
from adq_jax.quantizers import estimators
from adq_jax.quantizers import price as prices

_SLOTS = {
  "update": (updates.AbstractUpdate, "EmaUpdate()"),
  "placement": (placements.AbstractPlacement, "Placement()"),
  "estimator": (estimators.AbstractEstimator, "StraightThrough()"),
  "codewords": (of_codewords.AbstractCodewords, "FreeCodewords()"),
  "price": (prices.AbstractPrice, "NoPrice()"),
}


def check_slots(quantizer: Any) -> None:
  """Raises a ValueError unless objects fit their slots, and each other.

  Args:
    quantizer: a module that has the fields of `_SLOTS`.
  """
  for slot, (kind, like) in _SLOTS.items():
    check_option(slot, getattr(quantizer, slot), kind, like)
  update, placement = quantizer.update, quantizer.placement
  codewords, estimator = quantizer.codewords, quantizer.estimator
  if codewords.has_parameters and not update.uses_gradients:
    raise ValueError(
      f"update is {update!r}; it must be a GradientUpdate or a FrozenUpdate"
      f" where codewords is {codewords!r}, whose parameters learn by gradients"
    )
  if codewords.has_parameters and placement.is_active:
    raise ValueError(
      f"placement is {placement!r}; it must be Placement() where codewords is"
      f" {codewords!r}, which makes codewords of vectors: a vector that is put"
      " upon a point would make another codeword"
    )
  if update.keeps_vectors and not codewords.has_parameters:
    raise ValueError(
      f"codewords is {codewords!r}; it must be LinearCodewords() or another"
      f" with parameters where update is {update!r}, or nothing could learn"
    )
  if estimator.trains_codewords and not update.uses_gradients:
    raise ValueError(
      f"update is {update!r}; it must be a GradientUpdate where estimator is"
      f" {estimator!r}, which trains codewords by gradients"
    )
  if placement.is_active and not update.can_be_placed:
    raise ValueError(
      f"update is {update!r}; it must be an EmaUpdate or a GradientUpdate where"
      f" placement is {placement!r}, which places codewords"
    )
