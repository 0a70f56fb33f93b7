from absl.testing import parameterized
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vector_quantize_pytorch")

from adq_jax import nearest_codes  # noqa: E402
from adq_jax.codebook.pools import codebook_structures  # noqa: E402
from adq_jax.codebook.state import Codebook  # noqa: E402
from adq_jax.codebook.statistics import code_counts  # noqa: E402
from adq_jax.codebook.statistics import code_sums  # noqa: E402
from adq_jax.codebook.updates import ema_update  # noqa: E402
from adq_jax.models import networks  # noqa: E402
from adq_jax.quantizers import attention  # noqa: E402
from benchmarks import peers  # noqa: E402


class PeersTest(parameterized.TestCase):
  def test_same_network(self):
    images = jax.random.normal(jax.random.key(0), (2, 12, 8, 3))
    ours = networks.Encoder(features=8)
    variables = _random(ours.init(jax.random.key(1), images))
    z = ours.apply(variables, images)
    theirs = peers.encoder(3, features=8)
    _copy(variables["params"], theirs)
    _assert_close(_nhwc(theirs(_nchw(images))), z)

    ours = networks.Decoder(3, features=8)
    variables = _random(ours.init(jax.random.key(2), z))
    theirs = peers.decoder(3, features=8)
    _copy(variables["params"], theirs)
    _assert_close(_nhwc(theirs(_nchw(z))), ours.apply(variables, z))

  def test_same_selector(self):
    z = jax.random.normal(jax.random.key(0), (20, 8))
    ours = attention.AttentionSelector(3, num_heads=2)
    variables = _random(ours.init(jax.random.key(1), z))
    theirs = peers.AdaptiveQuantizer(peers.OneHotCodebook, 8, [(4, 2)] * 3)
    params = variables["params"]
    for name in ("query", "key"):
      layer = getattr(theirs, name)
      layer.weight.data = _tensor(params[name]["kernel"]).reshape(8, 8).T
      layer.bias.data = _tensor(params[name]["bias"]).reshape(8)
    theirs.codebook_keys.data = _tensor(params["codebook_keys"])
    _assert_close(theirs.log_weights(_tensor(z)), ours.apply(variables, z))

  def test_same_codes_and_moving_averages(self):
    torch.manual_seed(0)
    theirs = peers.OneHotCodebook(64, 4, features=8)
    codebook = Codebook(
      embedding=_array(theirs.embedding),
      cluster_size=_array(theirs.cluster_size),
      embedding_sum=_array(theirs.embedding_sum),
      initialized=jnp.array(True),
    )
    for step in range(3):
      points = jax.random.normal(jax.random.key(step), (300, 4))
      codes = nearest_codes(points, codebook.embedding)
      quantized = theirs.quantize(_tensor(points))
      _assert_close(quantized, codebook.embedding[codes])
      codebook = ema_update(
        codebook, code_counts(codes, 64), code_sums(points, codes, 64), 0.99
      )
      for name in ("embedding", "cluster_size", "embedding_sum"):
        _assert_close(getattr(theirs, name), getattr(codebook, name))

  def test_same_structures(self):
    self.assertEqual(peers.STRUCTURES, codebook_structures(65_536))

  @parameterized.parameters(peers.OneHotCodebook, peers.LibraryCodebook)
  def test_trains_codebooks(self, codebook):
    quantizer = peers.AdaptiveQuantizer(codebook, 8, [(16, 4), (64, 1)])
    z = torch.randn(2, 8, 3, 5, requires_grad=True)
    values, loss = quantizer(z)
    self.assertEqual(values.shape, z.shape)
    (values.sum() + loss).sum().backward()
    for x in (z, *quantizer.parameters()):
      self.assertGreater(x.grad.abs().sum(), 0)


def _random(variables):
  """Variables, moved at random: biases start as zeros."""
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(3), len(leaves))
  leaves = [
    leaf + 0.1 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return tree.unflatten(leaves)


def _copy(params, module: torch.nn.Module) -> None:
  """Copies a Flax network's parameters to the same network in PyTorch."""
  flat = flax.traverse_util.flatten_dict(params)
  names = sorted({path[:-1] for path in flat})  # the order of the layers
  layers = [
    layer
    for layer in module.modules()
    if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
  ]
  for name, layer in zip(names, layers, strict=True):
    kernel = _tensor(flat[*name, "kernel"])
    if isinstance(layer, torch.nn.ConvTranspose2d):
      # PyTorch's is the gradient of a convolution, which turns the kernel.
      kernel = kernel.flip(0, 1).permute(2, 3, 0, 1)
    else:
      kernel = kernel.permute(3, 2, 0, 1)
    assert kernel.shape == layer.weight.shape
    layer.weight.data = kernel
    if layer.bias is not None:
      layer.bias.data = _tensor(flat[*name, "bias"])


def _tensor(x: jax.Array) -> torch.Tensor:
  return torch.from_numpy(np.array(x))


def _array(x: torch.Tensor) -> jax.Array:
  return jnp.array(x.detach().numpy())


def _nchw(x: jax.Array) -> torch.Tensor:
  return _tensor(x).permute(0, 3, 1, 2)


def _nhwc(x: torch.Tensor) -> torch.Tensor:
  return x.permute(0, 2, 3, 1)


def _assert_close(theirs: torch.Tensor, ours: jax.Array) -> None:
  np.testing.assert_allclose(theirs.detach().numpy(), ours, atol=1e-5)
