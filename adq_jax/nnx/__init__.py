"""Quantizers and models as modules of Flax's NNX."""

from adq_jax.nnx.stateful import CodebookState
from adq_jax.nnx.stateful import Stateful

__all__ = ["CodebookState", "Stateful"]
