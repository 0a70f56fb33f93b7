"""What a quantizer costs and what it loses.

Counts are how many points chose each codeword; add them up over a split to
get figures that do not depend on the batch size.
"""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adq_jax import checks

GAP_KINDS = ("norm", "mean_absolute")


def psnr(mse: jax.Array | float, peak: float = 1.0) -> jax.Array:
  """Returns the peak signal-to-noise ratio, 10 log10(peak^2 / mse), in dB.

  Args:
    mse: mean squared error, `[...]`.
    peak: largest minus smallest value of an image; 1 for [-0.5, 0.5].
  """
  return 10.0 * jnp.log10(peak**2 / jnp.asarray(mse))


def entropy_bits(counts: jax.Array, shard_axis: str | None = None) -> jax.Array:
  """Returns the entropy of the histogram `[N]` in bits; 0 where it is empty.

  It is the plug-in estimate: too low where N is near the number of points.

  Args:
    counts: the histogram; with `shard_axis`, this device's part of it.
    shard_axis: the mapped axis over whose devices it is cut in equal parts.
  """

  def over_shards(total: jax.Array) -> jax.Array:
    return total if shard_axis is None else jax.lax.psum(total, shard_axis)

  counts = jnp.asarray(counts, jnp.float32)
  p = counts / jnp.maximum(over_shards(counts.sum()), 1.0)
  terms = jnp.where(p > 0, p * jnp.log2(jnp.where(p > 0, p, 1.0)), 0.0)
  return -over_shards(jnp.sum(terms))


def perplexity(counts: jax.Array, shard_axis: str | None = None) -> jax.Array:
  """Returns 2^entropy of the histogram `[N]`: 1 (one codeword) to N (even).

  The arguments are those of `entropy_bits`.
  """
  return 2.0 ** entropy_bits(counts, shard_axis)


def usage(counts: jax.Array, shard_axis: str | None = None) -> jax.Array:
  """Returns the share of codewords chosen at least once.

  The arguments are those of `entropy_bits`.
  """
  share = jnp.mean((jnp.asarray(counts) > 0).astype(jnp.float32))
  return share if shard_axis is None else jax.lax.pmean(share, shard_axis)


def cross_entropy_bits(counts: jax.Array, reference: jax.Array) -> jax.Array:
  """Returns the bits that all points take with a code made for others.

  The code has the frequencies of the others, with 1/2 added to every count.

  Args:
    counts: how many points chose each codeword, `[N]`.
    reference: how many of the others did, `[N]`.
  """
  smoothed = jnp.asarray(reference, jnp.float32) + 0.5
  bits = -jnp.log2(smoothed / smoothed.sum())
  return jnp.sum(jnp.asarray(counts, jnp.float32) * bits)


def nominal_rate(
  selection: jax.Array,
  codebook_sizes: Sequence[int],
  sent: jax.Array | None = None,
) -> jax.Array:
  """Returns the bits a position takes when indices are sent as they are.

  log2 N for one codebook; for a pool the mean log2 N of the chosen codebook
  plus the entropy of the choice.

  Args:
    selection: how many points chose each codebook, `[m]`.
    codebook_sizes: N of each codebook, m of them.
    sent: how many indices of each codebook are sent, `[m]`; by default one for
      each choice.
  """
  selection = jnp.asarray(selection, jnp.float32)
  sent = selection if sent is None else jnp.asarray(sent, jnp.float32)
  bits = jnp.log2(jnp.asarray(codebook_sizes, jnp.float32))
  per_choice = jnp.sum(sent * bits) / jnp.maximum(selection.sum(), 1.0)
  return per_choice + entropy_bits(selection)


def coded_rate(
  counts: Sequence[jax.Array],
  reference_counts: Sequence[jax.Array],
  selection: jax.Array | None = None,
  reference_selection: jax.Array | None = None,
) -> jax.Array:
  """Returns the bits a position takes with a code made for other data.

  The cross-entropy of the codes under the smoothed frequencies (1/2 added to
  every count) of a reference, say the training split: first of the codebook,
  then of the codeword within it.

  Args:
    counts: how often each codeword is sent, `[N_i]` for each of the m
      codebooks.
    reference_counts: the same of the reference.
    selection: how many points chose each codebook, `[m]`; by default as many
      as there are codewords sent.
    reference_selection: the same of the reference.
  """
  if selection is None:
    selection = jnp.stack([jnp.sum(c) for c in counts])
  if reference_selection is None:
    reference_selection = jnp.stack([jnp.sum(c) for c in reference_counts])
  selection = jnp.asarray(selection, jnp.float32)
  pairs = zip(counts, reference_counts, strict=True)
  total = sum(cross_entropy_bits(*pair) for pair in pairs)
  if len(counts) > 1:
    total += cross_entropy_bits(selection, reference_selection)
  return total / jnp.maximum(selection.sum(), 1.0)


def gradient_gap(
  loss: Callable[[jax.Array], jax.Array],
  quantize: Callable[[jax.Array], jax.Array],
  z: jax.Array,
  axis_name: str | None = None,
  kind: str = "norm",
) -> jax.Array:
  """Returns how much quantization changes the gradient (eq. 5).

  || d loss(z) / dz - d loss(quantize(z)) / dz ||_2, over the whole batch.

  Args:
    loss: the decoder's mean squared error as a function of its input.
    quantize: the quantizer with its straight-through gradient, projections
      and selection included, at the same parameters.
    z: the encoder's output, `[B, ...]`.
    axis_name: the mapped axis over which the batch is spread, in equal parts;
      `loss` is then the mean over this device's part.
    kind: `"norm"`, or `"mean_absolute"`, the mean of absolute differences.

  Raises:
    ValueError: if there is no such kind.
  """
  checks.check_choice("kind", kind, GAP_KINDS)
  checks.check_axis("axis_name", axis_name)
  unquantized = jax.grad(loss)(z)
  quantized = jax.grad(lambda z: loss(quantize(z)))(z)
  difference = (unquantized - quantized).astype(jnp.float32)
  if axis_name is not None:
    # The mean over the batch divides each device's gradient once more.
    difference /= jax.lax.axis_size(axis_name)
  if kind == "mean_absolute":
    mean = jnp.abs(difference).mean()
    return mean if axis_name is None else jax.lax.pmean(mean, axis_name)
  square = jnp.sum(jnp.square(difference))
  return jnp.sqrt(
    square if axis_name is None else jax.lax.psum(square, axis_name)
  )
