"""The slots that quantizers with codebooks have."""

from typing import Any

from adq_jax.codebook import placement as placements
from adq_jax.codebook import updates
from adq_jax.options import check_option
from adq_jax.quantizers import codewords as of_codewords
from adq_jax.quantizers import estimators


def check_slots(
  update: Any, placement: Any, estimator: Any, codewords: Any
) -> None:
  """Raises a ValueError unless these objects fit their slots, and each other.

  Args:
    update: how codewords learn.
    placement: where they are placed.
    estimator: what gives values a gradient.
    codewords: what codewords are made of.
  """
  for slot, value, kind, like in (
    ("update", update, updates.AbstractUpdate, "EmaUpdate()"),
    ("placement", placement, placements.AbstractPlacement, "Placement()"),
    (
      "estimator",
      estimator,
      estimators.AbstractEstimator,
      "StraightThrough()",
    ),
    (
      "codewords",
      codewords,
      of_codewords.AbstractCodewords,
      "FreeCodewords()",
    ),
  ):
    check_option(slot, value, kind, like)
  if placement.is_active and not update.can_be_placed:
    raise ValueError(
      f"update is {update!r}; it must be an EmaUpdate where placement is"
      f" {placement!r}, which places codewords"
    )
