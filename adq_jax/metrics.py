"""Figures for the bits that a quantizer takes and for the error that it makes.

Counts say how many points are assigned to each codeword.  Add them up over a
split before calling these functions: a batch alone has too few points, and its
figures depend on its size.
"""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax.checks import AnyArray

GAP_KINDS = ("norm", "mean_absolute")


def psnr(mse: AnyArray | float, peak: float = 1.0) -> jax.Array:
  """Returns the peak signal-to-noise ratio, 10 log10(peak^2 / mse), in dB.

  Args:
    mse: the mean squared error, above 0, `[...]`.
    peak: the largest minus the smallest value of an image; 1 for images in
      [-0.5, 0.5].

  Returns:
    float32 `[...]`.

  Example:
    >>> from adq_jax import psnr
    >>> print(f"{psnr(0.01):.2f} dB")
    20.00 dB
  """
  return 10.0 * jnp.log10(peak**2 / jnp.asarray(mse))


def entropy_bits(counts: AnyArray, shard_axis: str | None = None) -> jax.Array:
  """Returns the entropy of a histogram in bits; 0 for an empty one.

  This is the plug-in estimate.  It is too low where N is near the number of
  points.

  Args:
    counts: the histogram, not negative, `[N]`; with `shard_axis`, this device's
      part of it, `[N / n]`.
    shard_axis: the mapped axis over whose n devices the histogram is cut; None
      where it is not cut.

  Returns:
    float32 `[]`, in [0, log2 N].

  Raises:
    ValueError: if `shard_axis` is no mapped axis.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import entropy_bits
    >>> print(f"{entropy_bits(jnp.array([2, 1, 1, 0])):.2f} bits")
    1.50 bits
  """
  _check_shard_axis(shard_axis)

  def over_shards(total: jax.Array) -> jax.Array:
    return total if shard_axis is None else jax.lax.psum(total, shard_axis)

  counts = jnp.asarray(counts, jnp.float32)
  p = counts / jnp.maximum(over_shards(counts.sum()), 1.0)
  terms = jnp.where(p > 0, p * jnp.log2(jnp.where(p > 0, p, 1.0)), 0.0)
  return -over_shards(jnp.sum(terms))


def perplexity(counts: AnyArray, shard_axis: str | None = None) -> jax.Array:
  """Returns 2^entropy of a histogram, the effective number of its codewords.

  Args:
    counts: how many points are assigned to each codeword, `[N]`; with
      `shard_axis`, for this device's codewords, `[N / n]`.
    shard_axis: the mapped axis over whose n devices the histogram is cut; None
      where it is not cut.

  Returns:
    float32 `[]`: 1 where all points are assigned to one codeword, N where all
    codewords have as many.

  Raises:
    ValueError: if `shard_axis` is no mapped axis.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import perplexity
    >>> print(f"{perplexity(jnp.array([3, 3, 0, 0])):.1f}")
    2.0
  """
  return 2.0 ** entropy_bits(counts, shard_axis)


def usage(counts: AnyArray, shard_axis: str | None = None) -> jax.Array:
  """Returns the share of codewords to which at least one point is assigned.

  Args:
    counts: how many points are assigned to each codeword, `[N]`; with
      `shard_axis`, for this device's codewords, `[N / n]`.
    shard_axis: the mapped axis over whose n devices the histogram is cut; None
      where it is not cut.

  Returns:
    float32 `[]`, in [0, 1].

  Raises:
    ValueError: if `shard_axis` is no mapped axis.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import usage
    >>> print(f"{usage(jnp.array([7, 1, 0, 0])):.0%}")
    50%
  """
  _check_shard_axis(shard_axis)
  share = jnp.mean((jnp.asarray(counts) > 0).astype(jnp.float32))
  return share if shard_axis is None else jax.lax.pmean(share, shard_axis)


def code_bits(counts: AnyArray) -> jax.Array:
  """Returns the bits of each code under an entropy code for a histogram.

  Before frequencies are made of the counts, 1/2 is added to each of them.

  Args:
    counts: how often each code occurs in the data that the entropy code is made
      for, `[N]`.

  Returns:
    float32 `[N]`.
  """
  smoothed = jnp.asarray(counts, jnp.float32) + 0.5
  return -jnp.log2(smoothed / smoothed.sum())


def cross_entropy_bits(counts: AnyArray, reference: AnyArray) -> jax.Array:
  """Returns the bits of all codes under the entropy code for other data.

  Args:
    counts: how often each code occurs, `[N]`.
    reference: how often each code occurs in the other data, `[N]`.

  Returns:
    float32 `[]`, the sum over all codes.
  """
  return jnp.sum(jnp.asarray(counts, jnp.float32) * code_bits(reference))


def nominal_rate(
  selection: AnyArray,
  codebook_sizes: Sequence[int],
  sent: AnyArray | None = None,
) -> jax.Array:
  """Returns the bits that a position takes when indices are sent as they are.

  These are log2 N for one codebook.  For a pool they are the mean of log2 N
  over the choices, plus the entropy of the choice.

  Args:
    selection: how many points chose each codebook, `[m]`.
    codebook_sizes: N of each codebook, m of them.
    sent: how many indices of each codebook are sent, `[m]`; by default one for
      each choice.

  Returns:
    float32 `[]`, in bits per position.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import nominal_rate
    >>> print(nominal_rate(jnp.array([50, 50]), (16, 256)))  # (4 + 8) / 2 + 1
    7.0
  """
  selection = jnp.asarray(selection, jnp.float32)
  sent = selection if sent is None else jnp.asarray(sent, jnp.float32)
  bits = jnp.log2(jnp.asarray(codebook_sizes, jnp.float32))
  per_choice = jnp.sum(sent * bits) / jnp.maximum(selection.sum(), 1.0)
  return per_choice + entropy_bits(selection)


def coded_rate(
  counts: Sequence[AnyArray],
  reference_counts: Sequence[AnyArray],
  selection: AnyArray | None = None,
  reference_selection: AnyArray | None = None,
) -> jax.Array:
  """Returns the bits that a position takes under an entropy code.

  The entropy code is made for a reference, such as the training split, with
  1/2 added to every count.  It codes first the codebook, then the codeword
  within it.  The rate is the cross-entropy of the codes under it.

  Args:
    counts: how often each codeword is sent, `[N_i]` for each of the m
      codebooks.
    reference_counts: how often each codeword is sent in the reference, `[N_i]`
      for each codebook.
    selection: how many points chose each codebook, `[m]`; by default the number
      of codewords that are sent.
    reference_selection: how many points of the reference chose each codebook,
      `[m]`; by default the number of codewords that are sent.

  Returns:
    float32 `[]`, in bits per position.

  Raises:
    ValueError: if `counts` and `reference_counts` differ in length.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import coded_rate
    >>> training = [jnp.array([500_000, 250_000, 250_000])]
    >>> validation = [jnp.array([2, 1, 1])]
    >>> print(f"{coded_rate(validation, training):.2f}")
    1.50
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
  z: AnyArray,
  axis_name: str | None = None,
  kind: str = "norm",
) -> jax.Array:
  """Returns how much quantization changes the gradient (eq. 5).

  This is || d loss(z) / dz - d loss(quantize(z)) / dz ||_2 over the whole
  batch.

  Args:
    loss: the decoder's mean squared error as a function of its input.
    quantize: the quantizer with its straight-through gradient, projections
      and selection included, at the same parameters.
    z: the encoder's output, floating `[B, ...]`.
    axis_name: the mapped axis over whose devices the batch is cut into equal
      parts; `loss` is then the mean over this device's part.
    kind: `"norm"`, or `"mean_absolute"`, the mean of absolute differences.

  Returns:
    float32 `[]`, not negative.

  Raises:
    ValueError: if there is no such kind, or `axis_name` is no mapped axis.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import gradient_gap
    >>> z = jnp.array([[3.25, 4.25]])
    >>> loss = lambda z: jnp.sum(z**2) / 2  # its gradient is z
    >>> quantize = lambda z: z - jnp.array([[0.3, 0.4]])
    >>> print(f"{gradient_gap(loss, quantize, z):.2f}")
    0.50
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


def _check_shard_axis(shard_axis: str | None) -> None:
  otherwise = "without shard_axis for a whole histogram"
  checks.check_axis("shard_axis", shard_axis, otherwise)
