"""The model of `adq_jax` in PyTorch, written as is usual there.

Network, selector, loss (eq. 4) and optimizer are those of `adq_jax`.  There are
two kinds of codebooks: `OneHotCodebook`, and that of vector-quantize-pytorch.
This file imports neither JAX nor `adq_jax`, so that they take no memory of a
process that trains it.

Shapes: B images of H x W pixels, C features, T = B x H/4 x W/4 points, m
codebooks of N codewords of width D.
"""

from collections.abc import Callable
from collections.abc import Sequence

import torch
from torch import nn
from torch import Tensor
import torch.nn.functional as F  # noqa: N812
from vector_quantize_pytorch import VectorQuantize

STRUCTURES = tuple((65_536 // d, d) for d in (128, 64, 32, 16, 8, 4, 2, 1))
_DECAY = 0.99
_COMMITMENT_COST = 0.25


class Residual(nn.Module):
  """A residual block whose bottleneck has a quarter of the features."""

  def __init__(self, features: int):
    super().__init__()
    self.block = nn.Sequential(
      nn.ReLU(),
      nn.Conv2d(features, features // 4, 3, padding=1, bias=False),
      nn.ReLU(),
      nn.Conv2d(features // 4, features, 1, bias=False),
    )

  def forward(self, x: Tensor) -> Tensor:
    return x + self.block(x)


def encoder(channels: int, features: int = 128) -> nn.Module:
  """Returns a map of images `[B, channels, H, W]` to `[B, C, H / 4, W / 4]`."""
  return nn.Sequential(
    nn.Conv2d(channels, features // 2, 4, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(features // 2, features, 4, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(features, features, 3, padding=1),
    Residual(features),
    Residual(features),
    nn.ReLU(),
  )


def decoder(channels: int, features: int = 128) -> nn.Module:
  """Returns a map of `[B, C, H / 4, W / 4]` to images `[B, channels, H, W]`."""
  return nn.Sequential(
    nn.Conv2d(features, features, 3, padding=1),
    Residual(features),
    Residual(features),
    nn.ReLU(),
    nn.ConvTranspose2d(features, features // 2, 4, stride=2, padding=1),
    nn.ReLU(),
    nn.ConvTranspose2d(features // 2, channels, 4, stride=2, padding=1),
  )


class OneHotCodebook(nn.Module):
  """One codebook in the style of Zalando's VQ-VAE, which many have copied.

  It holds expanded distances and one-hot codes, both `[T, N]`.  Its counts are
  not smoothed, so its moving averages are those of `adq_jax`'s `ema_update`.
  """

  def __init__(self, codebook_size: int, embedding_dim: int, features: int):
    super().__init__()
    self.project_in = nn.Linear(features, embedding_dim)
    self.project_out = nn.Linear(embedding_dim, features)
    embedding = torch.randn(codebook_size, embedding_dim)
    self.register_buffer("embedding", embedding)
    self.register_buffer("cluster_size", torch.ones(codebook_size))
    self.register_buffer("embedding_sum", embedding.clone())

  def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
    """Maps points `[T, C]` to their values `[T, C]` and the loss `[]`."""
    points = self.project_in(z)
    quantized = self.quantize(points)
    loss = _COMMITMENT_COST * F.mse_loss(points, quantized)
    quantized = points + (quantized - points).detach()
    return self.project_out(quantized), loss

  @torch.no_grad()
  def quantize(self, points: Tensor) -> Tensor:
    """Maps points `[T, D]` to their codewords, then moves the codewords."""
    distances = (
      points.square().sum(dim=1, keepdim=True)
      + self.embedding.square().sum(dim=1)
      - 2 * points @ self.embedding.T
    )
    codes = distances.argmin(dim=1, keepdim=True)
    one_hot = torch.zeros_like(distances).scatter_(1, codes, 1.0)
    quantized = one_hot @ self.embedding
    self.cluster_size.lerp_(one_hot.sum(dim=0), 1 - _DECAY)
    self.embedding_sum.lerp_(one_hot.T @ points, 1 - _DECAY)
    self.embedding.copy_(self.embedding_sum / self.cluster_size[:, None])
    return quantized


class LibraryCodebook(nn.Module):
  """The codebook of vector-quantize-pytorch, with the paper's values.

  All other options have their defaults, among them the rotation trick in place
  of the straight-through estimator.
  """

  def __init__(self, codebook_size: int, embedding_dim: int, features: int):
    super().__init__()
    self.codebook = VectorQuantize(
      dim=features,
      codebook_dim=embedding_dim,
      codebook_size=codebook_size,
      decay=_DECAY,
      commitment_weight=_COMMITMENT_COST,
    )

  def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
    """Maps points `[T, C]` to their values `[T, C]` and the loss `[]`."""
    values, _, loss = self.codebook(z[None])
    return values[0], loss


class AdaptiveQuantizer(nn.Module):
  """A pool of codebooks; attention and Gumbel-Softmax choose one of them."""

  def __init__(
    self,
    codebook: Callable[[int, int, int], nn.Module],
    features: int = 128,
    structures: Sequence[tuple[int, int]] = STRUCTURES,
    num_heads: int = 2,
  ):
    super().__init__()
    self.codebooks = nn.ModuleList(
      codebook(*structure, features) for structure in structures
    )
    self.num_heads = num_heads
    self.query = nn.Linear(features, features)
    self.key = nn.Linear(features, features)
    self.codebook_keys = nn.Parameter(torch.randn(len(structures), features))

  def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
    """Maps z `[B, C, H / 4, W / 4]` to values of its shape and the loss."""
    grid = z.permute(0, 2, 3, 1)
    points = grid.reshape(-1, grid.shape[-1])
    # The temperature scales a gradient, and takes no time.
    choice = F.gumbel_softmax(self.log_weights(points), tau=1.0, hard=True)
    values, losses = zip(
      *(codebook(points) for codebook in self.codebooks), strict=True
    )
    mixed = sum(choice[:, i, None] * value for i, value in enumerate(values))
    mixed = mixed.reshape(grid.shape).permute(0, 3, 1, 2)
    return mixed, sum(losses) / len(losses)

  def log_weights(self, points: Tensor) -> Tensor:
    """Returns log pi `[T, m]` of points `[T, C]`."""

    def heads(x: Tensor) -> Tensor:
      return x.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)

    query, key = heads(self.query(points)), heads(self.key(self.codebook_keys))
    scores = query @ key.mT / query.shape[-1] ** 0.5  # [heads, T, m]
    return scores.softmax(dim=-1).mean(dim=0).log()


QUANTIZERS = {
  "none": None,
  "one-hot": OneHotCodebook,
  "library": LibraryCodebook,
}


def make_train_step(quantizer: str, channels: int) -> Callable[[Tensor], float]:
  """Returns a step of training, which takes images and returns the loss.

  The images are uint8 `[B, H, W, channels]`.

  Args:
    quantizer: a key of `QUANTIZERS`.
    channels: of the images.
  """
  model = nn.ModuleDict(
    {"encoder": encoder(channels), "decoder": decoder(channels)}
  )
  if QUANTIZERS[quantizer]:
    model["quantizer"] = AdaptiveQuantizer(QUANTIZERS[quantizer])
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

  def train_step(images: Tensor) -> float:
    images = images.permute(0, 3, 1, 2).contiguous() / 255 - 0.5
    z, loss = model["encoder"](images), 0.0
    if "quantizer" in model:
      z, loss = model["quantizer"](z)
    loss = loss + F.mse_loss(model["decoder"](z), images)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

  return train_step
