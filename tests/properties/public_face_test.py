"""The public names have types, and a version."""

import ast
import importlib.metadata
import pathlib

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

import adq_jax
from tests.support import public_face


def _names_used():
  tree = ast.parse(pathlib.Path(public_face.__file__).read_text())
  return {
    node.attr
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
    and isinstance(node.value, ast.Name)
    and node.value.id == "adq_jax"
  }


class PublicFaceTest(absltest.TestCase):
  def test_every_public_name_is_checked(self):
    self.assertEqual(_names_used(), set(adq_jax.__all__))

  def test_what_is_checked_runs(self):
    image = jnp.zeros((1, 8, 8, 3))
    for model in public_face.make_models():
      result, _ = jax.eval_shape(
        model.init_with_output, jax.random.key(0), image
      )
      self.assertEqual(result.images.shape, image.shape)
      if isinstance(result.quantized.codes, adq_jax.AdaptiveCodes):
        loss = jax.eval_shape(
          public_face.use_results, result.quantized, result.quantized.codes
        )
        self.assertEqual(loss.shape, ())
    codewords = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    codes = public_face.use_codewords(jnp.asarray(codewords), codewords)
    self.assertEqual(codes.tolist(), [0, 2, 4, 6])
    variables = jax.eval_shape(lambda: public_face.start_qinco()[1])
    self.assertEqual(variables["params"]["candidates"].shape, (1, 16, 8))
    self.assertLen(public_face.use_figures(np.array([1, 3])), 7)
    title, size, weights = public_face.use_the_rest(jnp.zeros((3, 8)))
    self.assertEqual((title, weights.shape), ("index", (3, 2)))
    self.assertAlmostEqual(size, 2.0)

  def test_the_version_is_that_of_the_package(self):
    self.assertEqual(adq_jax.__version__, importlib.metadata.version("adq_jax"))

  def test_it_says_that_it_has_types(self):
    marker = pathlib.Path(adq_jax.__file__).with_name("py.typed")
    self.assertTrue(marker.is_file())
