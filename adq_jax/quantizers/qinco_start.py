"""How a QINCo starts: as a trained residual quantizer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax.quantizers.qinco import QINCo
from adq_jax.quantizers.residual import ResidualQuantizer
from adq_jax.quantizers.stage_codebooks import StageCodebooks


def qinco_from_residual(
  key: jax.Array,
  quantizer: QINCo,
  residual: ResidualQuantizer,
  variables: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns variables with which a QINCo does what a residual quantizer does.

  Networks start as the identity.  So codes decode to the same values, to the
  bit, and a search with the same `beam_size` finds the same codes, but for
  rounding of distances that are all but equal.  (`num_candidates` has to be 0
  for that, or no less than `beam_size`.)  The papers' own networks start at
  random, or at twice the codewords (QINCo2 where its layers are as wide as the
  codewords), and so elsewhere.

  Args:
    key: a PRNG key, for the networks.
    quantizer: whose variables to make.
    residual: a trained quantizer with as many stages, codewords and features.
    variables: of `residual`.

  Raises:
    ValueError: if a field of the two differs that has to be the same, or
      `residual` has a price.

  Example:
    >>> import jax
    >>> from adq_jax import QINCo, qinco_from_residual, ResidualQuantizer
    >>> residual, quantizer = ResidualQuantizer(2, 16, 4), QINCo(2, 16, 4)
    >>> z = jax.random.normal(jax.random.key(0), (64, 4))
    >>> trained = residual.init(jax.random.key(1), z)
    >>> variables = qinco_from_residual(
    ...   jax.random.key(2), quantizer, residual, trained
    ... )
    >>> codes = residual.apply(trained, z, method="encode")
    >>> bool((quantizer.apply(variables, z, method="encode") == codes).all())
    True
  """
  for name in ("num_stages", "codebook_size", "embedding_dim", "features"):
    own, other = getattr(quantizer, name), getattr(residual, name)
    if own != other:
      raise ValueError(
        f"{name} of the QINCo is {own}; it must be {other}, as of the residual"
        " quantizer"
      )
  if residual.has_price:
    raise ValueError(
      f"price of the residual quantizer is {residual.price!r}; it must be"
      " NoPrice(), for a QINCo uses all stages"
    )

  def codewords(residual: ResidualQuantizer) -> jax.Array:
    books = StageCodebooks(
      residual.codebooks, [s.name for s in residual.streams]
    )
    stages = [books.of(s) for s in range(residual.num_stages)]
    return jnp.stack([stage.all_codewords() for stage in stages])

  embedding = residual.apply(variables, method=codewords)
  z = jnp.zeros(quantizer.example_shape, jnp.float32)
  made = quantizer.init(key, z)
  params = {**made["params"], "embedding": embedding}
  if quantizer.num_candidates:
    params["candidates"] = embedding[1:]
  for name in ("project_in", "project_out"):
    if name in params:
      params[name] = variables["params"][name]
  return {**made, "params": params}
