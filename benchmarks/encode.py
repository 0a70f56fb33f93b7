"""Measures encoding, where each point searches only the codebook that it chose.

python -m benchmarks.encode

In `VQVAE.encode` each point first chooses a codebook, and then searches only
that one.  The alternative searches all eight for every point and keeps one
index.  The saving depends on the choice.  So this benchmark makes points choose
evenly among the codebooks, or all choose one.
"""

from collections.abc import Callable
import functools
from unittest import mock

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveCodes
from adq_jax import VQVAE
from adq_jax.quantizers import attention
from benchmarks import report
from benchmarks import timing
from experiments.configs import fashion_mnist
from experiments.model import build
from experiments.model.state import create_state

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each program.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of 28 x 28.")

_CHOICES = {
  "evenly among eight": None,
  "[512,128] alone": 0,
  "[8192,8] alone": 4,
  "[65536,1] alone": 7,
}


def main(argv: list[str]) -> None:
  del argv
  timing.two_threads()
  config = fashion_mnist.get_config()
  model = build.create_model(config)
  variables = create_state(config, model).variables
  rng = np.random.default_rng(0)
  images = rng.uniform(-0.5, 0.5, (_BATCH_SIZE.value, 28, 28, 1))
  images = jnp.asarray(images, jnp.float32)
  rows = []
  for title, book in _CHOICES.items():
    # Tracing calls the selector, so it is replaced while a program compiles.
    with mock.patch.object(
      attention.AttentionSelector,
      "__call__",
      functools.partialmethod(_choose, book=book),
    ):
      encode, encode_seconds = _compile(
        lambda v, x: model.apply(v, x, method="encode"), variables, images
      )
      encode_all, _ = _compile(
        lambda v, x: model.apply(v, x, method=_encode_all), variables, images
      )
    codes = encode()
    decode, decode_seconds = _compile(
      lambda v, codes: model.apply(v, codes, method="decode"), variables, codes
    )
    networks, _ = _compile(
      lambda v, x: model.apply(v, x, method=lambda m, x: m.encoder(x)),
      variables,
      images,
    )
    for ours, theirs in zip(
      jax.tree.leaves(codes), jax.tree.leaves(encode_all()), strict=True
    ):
      np.testing.assert_array_equal(ours, theirs)
    times = timing.medians(
      timing.in_turn(
        {
          "encode": encode,
          "all": encode_all,
          "encoder": networks,
          "decode": decode,
        },
        _ROUNDS.value,
      )
    )
    rows.append(
      {
        "points choose": title,
        "encode ms": round(1e3 * times["encode"], 1),
        "searching all eight ms": round(1e3 * times["all"], 1),
        "times faster": round(times["all"] / times["encode"], 2),
        "the encoder network in it ms": round(1e3 * times["encoder"], 1),
        "decode ms": round(1e3 * times["decode"], 1),
        "compiling encode s": round(encode_seconds, 1),
        "decode s": round(decode_seconds, 1),
      }
    )
  report.show(f"Encoding and decoding {_BATCH_SIZE.value} images", rows)


def _choose(
  selector: attention.AttentionSelector, z: jax.Array, book: int | None
) -> jax.Array:
  """Returns logits `[..., m]` for the choice of `book`, or of all evenly."""
  num_books = selector.num_codebooks
  shape = z.shape[:-1]
  if book is None:
    chosen = jnp.arange(np.prod(shape)).reshape(shape) % num_books
  else:
    chosen = jnp.full(shape, book)
  return jax.nn.one_hot(chosen, num_books)


def _encode_all(model: VQVAE, images: jax.Array):
  """Returns the codes, after a search of every codebook for every point."""
  quantizer, z = model.quantizer, model.encoder(images)
  _, book = attention.straight_through_choice(quantizer.selector(z), 1.0)
  indices = [codebook.encode(z) for codebook in quantizer.codebooks]
  index = jnp.choose(book, indices, mode="clip")
  return AdaptiveCodes(book, index)


def _compile(
  function: Callable[..., object], *arguments
) -> tuple[Callable[[], object], float]:
  """Returns a call of the compiled function, and the seconds of compiling."""
  compiled, seconds = timing.timed(jax.jit(function).lower(*arguments).compile)
  return lambda: jax.block_until_ready(compiled(*arguments)), seconds


if __name__ == "__main__":
  app.run(main)
