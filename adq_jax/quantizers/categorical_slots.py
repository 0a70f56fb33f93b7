"""Slots of a `CategoricalQuantizer`: scores, a posterior and a relaxation.

Shapes: t points, N codewords, D their width.
"""

import abc
from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy import special

from adq_jax import checks
from adq_jax import options
from adq_jax import sphere
from adq_jax.quantizers import projections

Parameters = Mapping[str, jax.Array]
MakeParameter = Callable[..., jax.Array]

_LONGEST = 20.0  # of a hyperbolic point; sinh overflows float32 beyond 44
_SHORTEST = 1e-12  # of its squared length; below, it has no gradient
_LARGEST_EVIDENCE = 15.0  # its logarithm; beyond, probabilities are all sure
_STIRLING_FROM = 20.0


class AbstractScores(options.Option, abc.ABC):
  """What a slot `scores` takes: a frozen dataclass."""

  @abc.abstractmethod
  def parameters(self, make: MakeParameter, size: int, dim: int) -> Parameters:
    """Returns the parameters.

    Args:
      make: makes one: (name, initializer, shape) -> float32 of that shape.
      size: N.
      dim: D.
    """

  @abc.abstractmethod
  def scores(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns how well codewords suit points `[t, D]`, float32 `[t, N]`."""

  def codewords(self, parameters: Parameters) -> jax.Array:
    """Returns what codes decode to, float32 `[N, D]`."""
    return parameters["embedding"]

  def misfit(
    self, parameters: Parameters, points: jax.Array, values: jax.Array
  ) -> jax.Array:
    """Returns a loss of each point, in nats, float32 `[t]`; by default 0.

    Args:
      parameters: as `parameters` made them.
      points: float32 `[t, D]`.
      values: what the decoder sees of them, float32 `[t, D]`.
    """
    del parameters, values
    return jnp.zeros(points.shape[:1], jnp.float32)


@dataclasses.dataclass(frozen=True)
class LinearScores(AbstractScores):
  """Logits by a linear layer, as in the discrete VAE of DALL-E.

  Ramesh et al., 2021, "Zero-Shot Text-to-Image Generation", arXiv 2102.12092.
  Points need not be anywhere near their codewords.

  Example:
    >>> from adq_jax import CategoricalQuantizer, LinearScores
    >>> quantizer = CategoricalQuantizer(8, 4, scores=LinearScores())
    >>> quantizer.streams[0].alphabet
    8
  """

  def parameters(self, make: MakeParameter, size: int, dim: int) -> Parameters:
    """Returns the layer, and codewords that start standard normal."""
    return {
      "embedding": make("embedding", nn.initializers.normal(1.0), (size, dim)),
      "kernel": make("kernel", nn.initializers.lecun_normal(), (dim, size)),
      "bias": make("bias", nn.initializers.zeros, (size,)),
    }

  def scores(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns the logits."""
    return _affine(points, parameters["kernel"], parameters["bias"])


@dataclasses.dataclass(frozen=True)
class DistanceScores(AbstractScores):
  """Gaussian log-likelihoods of one learned variance, as in SQ-VAE, type I.

  Takida et al., 2022, "SQ-VAE: Variational Bayes on Discrete Representation
  with Self-annealed Stochastic Quantization", arXiv 2205.07547.  The scores
  are -|z - c|^2 / (2 v), and the loss has |z - z_q|^2 / (2 v).  The variance v
  falls in training by itself, so that the choice becomes sure.

  It is the bound of the paper with `SoftmaxPosterior(kl_weight=1)` and a
  `VQVAE(reconstruction_loss="log_mse")`, whose `quantization_weight` is points
  over numbers of an image: 1 / (channels f^2).  Weighed otherwise, the
  variance does not anneal.  The vision code of the authors has v of at least
  1; here it is exp of a parameter, as in their code for speech.

  Attributes:
    initial_variance: of v, above 0.

  Example:
    >>> from adq_jax import CategoricalQuantizer, DistanceScores
    >>> CategoricalQuantizer(8, 4, scores=DistanceScores(10.0)).check()
  """

  initial_variance: float = 10.0

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    _check_above_zero("initial_variance", self.initial_variance)

  def parameters(self, make: MakeParameter, size: int, dim: int) -> Parameters:
    """Returns log v, and codewords that start standard normal."""
    start = nn.initializers.constant(math.log(self.initial_variance))
    return {
      "embedding": make("embedding", nn.initializers.normal(1.0), (size, dim)),
      "log_variance": make("log_variance", start, (1,)),
    }

  def variance(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns v of points `[t, D]`, float32 `[1, 1]` or `[t, 1]`."""
    del points
    return jnp.exp(parameters["log_variance"])[None]

  def scores(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns the log-likelihoods, up to a number for each point."""
    codewords = parameters["embedding"]
    # Without |z|^2, which no softmax sees, and which rounds the rest away.
    nearness = _affine(points, 2 * codewords.T, -jnp.square(codewords).sum(1))
    return nearness / (2 * self.variance(parameters, points))

  def misfit(
    self, parameters: Parameters, points: jax.Array, values: jax.Array
  ) -> jax.Array:
    """Returns |z - z_q|^2 / (2 v)."""
    squares = jnp.square(points - values)
    return (squares / (2 * self.variance(parameters, points))).sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class PositionDistanceScores(DistanceScores):
  """As `DistanceScores`, with a variance for each position: SQ-VAE's type III.

  A linear layer of the point adds to log v.  It starts at zero, so that all
  variances start alike.

  Attributes:
    initial_variance: of v, above 0.

  Example:
    >>> from adq_jax import CategoricalQuantizer, PositionDistanceScores
    >>> CategoricalQuantizer(8, 4, scores=PositionDistanceScores()).check()
  """

  def parameters(self, make: MakeParameter, size: int, dim: int) -> Parameters:
    """Returns those of type I, and the layer."""
    head = make("variance_kernel", nn.initializers.zeros, (dim, 1))
    return {**super().parameters(make, size, dim), "variance_kernel": head}

  def variance(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns v of points `[t, D]`, float32 `[t, 1]`."""
    kernel, bias = parameters["variance_kernel"], parameters["log_variance"]
    # Bounded, so that a point far away has no infinite score.
    return jnp.exp(jnp.clip(_affine(points, kernel, bias), -30.0, 30.0))


@dataclasses.dataclass(frozen=True)
class HyperbolicScores(AbstractScores):
  """Distances to hyperplanes of a hyperbolic space, as in HyperVQ.

  Goswami et al., 2024, arXiv 2403.13015, with the logits of Shimizu et al.,
  2021, "Hyperbolic Neural Networks++".  Codeword k has a hyperplane, with a
  normal a_k = |a_k| u_k and an offset r_k.  The code decodes to r_k u_k: seen
  from the origin, the hyperplane's nearest point.  (The text of the paper was
  not at hand; other code decodes to r_k a_k.)

  So a codeword lies on its own hyperplane, where its logit is 0, and
  `encode(decode(k))` is not k in general.  Far from the origin, a codeword of a
  long normal wins over one that is better aligned, so keep points short.

  Attributes:
    curvature: c, above 0, of the space of curvature -c.

  Example:
    >>> from adq_jax import CategoricalQuantizer, HyperbolicScores
    >>> CategoricalQuantizer(8, 4, scores=HyperbolicScores()).check()
  """

  curvature: float = 1.0

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    _check_above_zero("curvature", self.curvature)

  def parameters(self, make: MakeParameter, size: int, dim: int) -> Parameters:
    """Returns normals and offsets.

    Offsets of 0 would make all codewords 0, so these start random.
    """
    normals = nn.initializers.normal((2 * dim * size) ** -0.5)
    return {
      "normals": make("normals", normals, (size, dim)),
      "offsets": make("offsets", nn.initializers.normal(0.01), (size,)),
    }

  def scores(self, parameters: Parameters, points: jax.Array) -> jax.Array:
    """Returns the signed distances, times twice the normals' lengths."""
    root = math.sqrt(self.curvature)
    twice = 2 * jnp.minimum(root * _length(points), _LONGEST)
    normals = parameters["normals"]
    offsets = 2 * root * parameters["offsets"]
    # An inner product in Lorentz coordinates: no division by 1 - c |x|^2.
    inner = projections.times(
      jnp.concatenate(
        [jnp.sinh(twice) * sphere.to_sphere(points), jnp.cosh(twice)], axis=1
      ),
      jnp.concatenate(
        [
          sphere.to_sphere(normals).T * jnp.cosh(offsets)[None],
          -jnp.sinh(offsets)[None],
        ]
      ),
    )
    return 2 / root * _length(normals).T * jnp.arcsinh(inner)

  def codewords(self, parameters: Parameters) -> jax.Array:
    """Returns offsets times normals of length 1, float32 `[N, D]`."""
    # Rounded alike where the parameters are constants of a program, whose
    # compiler would else compute with them in its own way.
    normals, offsets = jax.lax.optimization_barrier(
      (parameters["normals"], parameters["offsets"])
    )
    return sphere.to_sphere(normals) * offsets[:, None]


@dataclasses.dataclass(frozen=True)
class AbstractPosterior(options.Option, abc.ABC):
  """What a slot `posterior` takes: a frozen dataclass.

  Attributes:
    kl_weight: of the divergence from the prior, 0 or more.
  """

  kl_weight: float = 0.0

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("kl_weight", self.kl_weight, 0)

  @abc.abstractmethod
  def log_probabilities(self, scores: jax.Array) -> jax.Array:
    """Returns what Gumbel noise is added to, float32 `[t, N]`."""

  @abc.abstractmethod
  def divergence(self, scores: jax.Array) -> jax.Array:
    """Returns the divergence of each point, in nats, float32 `[t]`."""


@dataclasses.dataclass(frozen=True)
class SoftmaxPosterior(AbstractPosterior):
  """A softmax of the scores, whose prior is uniform.

  Its divergence is sum_k q_k log(N q_k) of a position, whatever the
  temperature, and so it wants every single position unsure.  Keep its weight
  small, and let it rise: with none, codes may collapse.  A rise is a schedule
  of the experiment, and not of the quantizer.

  Attributes:
    kl_weight: of the divergence from the prior, 0 or more.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import SoftmaxPosterior
    >>> scores = jnp.log(jnp.array([[3.0, 1.0]]))
    >>> print(SoftmaxPosterior().divergence(scores).round(4))
    [0.1308]
  """

  kl_weight: float = 5e-4

  def log_probabilities(self, scores: jax.Array) -> jax.Array:
    """Returns the log-softmax."""
    return jax.nn.log_softmax(scores, axis=-1)

  def divergence(self, scores: jax.Array) -> jax.Array:
    """Returns sum_k q_k log(N q_k)."""
    log_q = self.log_probabilities(scores)
    nats = (jnp.exp(log_q) * log_q).sum(axis=-1)
    return nats + math.log(scores.shape[-1])


@dataclasses.dataclass(frozen=True)
class DirichletPosterior(AbstractPosterior):
  """The mean of a Dirichlet distribution, as in EdVAE.

  Baykal et al., 2023, "EdVAE: Mitigating Codebook Collapse with Evidential
  Discrete Variational Autoencoders", arXiv 2310.05718.  Scores l are evidence:
  alpha = exp(min(l, 15)) + 1, and probabilities are alpha / sum(alpha).  The
  prior is Dir(1, ..., 1).  The divergence is of thousands of nats, so that its
  weight is not comparable to that of a softmax.  (The code of the authors has
  20 in the place of 15, where logarithms of gamma in float32 are wrong by 2%.)

  Attributes:
    kl_weight: of the divergence from the prior, 0 or more.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import DirichletPosterior
    >>> print(DirichletPosterior().divergence(jnp.zeros((1, 2))).round(4))
    [0.1251]
  """

  kl_weight: float = 1e-7

  def log_probabilities(self, scores: jax.Array) -> jax.Array:
    """Returns the logarithms of the means."""
    alpha = _alpha(scores)
    return jnp.log(alpha) - jnp.log(alpha.sum(axis=-1, keepdims=True))

  def divergence(self, scores: jax.Array) -> jax.Array:
    """Returns that of Dir(alpha) from Dir(1, ..., 1)."""
    alpha = _alpha(scores)
    total = alpha.sum(axis=-1)
    rest = (scores.shape[-1] - 1) * special.digamma(total)
    own = _less_itself(alpha).sum(axis=-1) - _less_itself(total)
    return own + rest - math.lgamma(scores.shape[-1])


class AbstractRelaxation(options.Option, abc.ABC):
  """What a slot `relaxation` takes: a frozen dataclass."""

  @abc.abstractmethod
  def values(
    self, weights: jax.Array, codes: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns what the decoder sees in training, float32 `[t, D]`.

    Args:
      weights: of a softmax, float32 `[t, N]`.
      codes: of the largest, int32 `[t]`.
      codewords: float32 `[N, D]`.
    """


@dataclasses.dataclass(frozen=True)
class SoftRelaxation(AbstractRelaxation):
  """The decoder sees mixtures of codewords in training, as in DALL-E.

  In evaluation it sees codewords.  The gap closes only as the temperature or
  the variance falls, so watch both errors.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import SoftRelaxation
    >>> weights = jnp.array([[0.75, 0.25]])
    >>> codewords = jnp.array([[0.0], [1.0]])
    >>> print(SoftRelaxation().values(weights, jnp.array([0]), codewords))
    [[0.25]]
  """

  def values(
    self, weights: jax.Array, codes: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns the mixtures."""
    del codes
    return projections.times(weights, codewords)


@dataclasses.dataclass(frozen=True)
class HardRelaxation(AbstractRelaxation):
  """The decoder sees single codewords, and weights have a softmax's gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import HardRelaxation
    >>> weights = jnp.array([[0.75, 0.25]])
    >>> codewords = jnp.array([[0.0], [1.0]])
    >>> print(HardRelaxation().values(weights, jnp.array([0]), codewords))
    [[0.]]
  """

  def values(
    self, weights: jax.Array, codes: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns the codewords."""
    mixed = projections.times(weights, jax.lax.stop_gradient(codewords))
    return codewords[codes] + (mixed - jax.lax.stop_gradient(mixed))


def _alpha(scores: jax.Array) -> jax.Array:
  return jnp.exp(jnp.minimum(scores, _LARGEST_EVIDENCE)) + 1


def _less_itself(x: jax.Array) -> jax.Array:
  """Returns (x - 1) digamma(x) - log gamma(x) - x, for x of at least 1.

  The divergence is made of such terms, and in float32 the logarithms of gamma
  would cancel to nothing where x is large.  There it is Stirling's series.
  """
  is_large = x > _STIRLING_FROM
  few = jnp.where(is_large, 1.0, x)
  exact = (few - 1) * special.digamma(few) - special.gammaln(few) - few
  many = jnp.where(is_large, x, _STIRLING_FROM)
  inverse = 1 / many
  series = inverse * (1 / 3 + inverse * (1 / 12 + inverse / 90))
  series -= (jnp.log(many) + 1 + math.log(2 * math.pi)) / 2
  return jnp.where(is_large, series, exact)


def _check_above_zero(name: str, value: float) -> None:
  checks.check_at_least(name, value, 0)
  if not value > 0:
    raise ValueError(f"{name} is {value}; it must be above 0")


def _length(x: jax.Array) -> jax.Array:
  """Returns the lengths `[t, 1]` of x `[t, D]`, with no gradient at zero."""
  squares = jnp.square(x).sum(axis=-1, keepdims=True)
  return jnp.sqrt(jnp.maximum(squares, _SHORTEST))


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """Returns x kernel + bias as one product, which all programs round alike."""
  ones = jnp.ones((x.shape[0], 1), x.dtype)
  return projections.times(
    jnp.concatenate([x, ones], axis=1), jnp.concatenate([kernel, bias[None]])
  )
