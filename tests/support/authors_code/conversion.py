"""Reads what `make` recorded, in the layout of a `VQVAE`."""

from collections.abc import Callable
from collections.abc import Mapping
import pathlib
from typing import Any

import flax
import numpy as np

from tests.support.authors_code import make

NUM_HEADS = 2
_BLOCKS = "_residual_stack._layers"

Array = np.ndarray
Get = Callable[[str], Array]


def read() -> Mapping[str, Array]:
  """Returns all arrays of the file, by name."""
  return dict(np.load(pathlib.Path(__file__).parent / "steps.npz"))


def params(get: Get) -> dict[str, Any]:
  """Returns the parameters of a `VQVAE`, or their gradients.

  Args:
    get: returns what PyTorch has for the name of a parameter.
  """
  flat = {
    ("quantizer", "selector", "codebook_keys"): get("quantization_keys")[:, 0],
  }
  for i, name in enumerate(("_conv_1", "_conv_2", "_conv_3")):
    flat |= _layer(("encoder", f"Conv_{i}"), get, f"_encoder.{name}", _conv)
  for i, name in enumerate(("_conv_trans_1", "_conv_trans_2")):
    place = ("decoder", f"TransposedConv_{i}")
    flat |= _layer(place, get, f"_decoder.{name}", _transposed)
  for part in ("encoder", "decoder"):
    # A block has two convolutions without a bias.
    for i, (layer, place) in enumerate(((0, 1), (0, 3), (1, 1), (1, 3))):
      weight = get(f"_{part}.{_BLOCKS}.{layer}._block.{place}.weight")
      flat[part, "ResidualBlocks_0", f"Conv_{i}", "kernel"] = _conv(weight)
  for i in range(len(make.STRUCTURES)):
    codebook, own = ("quantizer", f"codebooks_{i}"), f"_vq_vae.{i}."
    flat |= _layer(
      (*codebook, "project_in"), get, own + "_mapping_conv", _dense
    )
    flat |= _layer(
      (*codebook, "project_out"), get, own + "_mapping_conv_1", _conv
    )
  weights = np.split(get("quantization_attention.in_proj_weight"), 3)
  biases = np.split(get("quantization_attention.in_proj_bias"), 3)
  # The third part is for values, which their model does not use.
  for i, name in enumerate(("query", "key")):
    place = ("quantizer", "selector", name)
    flat[*place, "kernel"] = weights[i].T.reshape(make.WIDTH, NUM_HEADS, -1)
    flat[*place, "bias"] = biases[i].reshape(NUM_HEADS, -1)
  return flax.traverse_util.unflatten_dict(flat)


def codebook(get: Get) -> dict[str, Any]:
  """Returns the collection "codebook" of a `VQVAE`; `get` as of `params`."""
  return {
    "quantizer": {
      f"codebooks_{i}": {
        "embedding": get(f"_vq_vae.{i}._embedding.weight"),
        "embedding_sum": get(f"_vq_vae.{i}._ema_w"),
        "cluster_size": get(f"_vq_vae.{i}._ema_cluster_size"),
        "initialized": np.array(True),
      }
      for i in range(len(make.STRUCTURES))
    }
  }


def _layer(
  place: tuple[str, ...], get: Get, name: str, kernel: Callable[[Array], Array]
) -> dict[tuple[str, ...], Array]:
  return {
    (*place, "kernel"): kernel(get(f"{name}.weight")),
    (*place, "bias"): get(f"{name}.bias"),
  }


def _conv(weight: Array) -> Array:
  """[out, in, rows, columns] -> [rows, columns, in, out]"""
  return weight.transpose(2, 3, 1, 0)


def _dense(weight: Array) -> Array:
  """[out, in, 1, 1] -> [in, out]"""
  return weight[:, :, 0, 0].T


def _transposed(weight: Array) -> Array:
  """[in, out, rows, columns] -> [rows, columns, in, out], turned round."""
  return weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
