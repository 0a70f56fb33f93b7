"""Which model a token file is of."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import ClassVar

from absl.testing import parameterized
import jax
import numpy as np

import adq_jax
from experiments import files
from experiments.model import build
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs import claims
from experiments.runs import workdir as workdirs
from experiments.tokens import model_identity
from tests.support import tiny
from tests.support import toys

POOL = {"model.network": "cnn", "quantizer.structures": ((16, 4), (32, 2))}


def zeros(config, model):
  template = checkpoints.make_template(config, model)
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template.variables)


def identity(model=None, change="", **fields):
  """Returns the identity of a model whose arrays are 0.

  Args:
    model: by default that of the config.
    change: a part of the names of arrays that are 1 instead.
    **fields: of the config.
  """
  config = tiny.config(**{**POOL, **fields})
  model = model or build.create_model(config)

  def changed(path, array):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return array + (change in name) if change else array

  variables = jax.tree_util.tree_map_with_path(changed, zeros(config, model))
  return model_identity.compute(model, variables)


@functools.cache
def default_identity():
  return identity()


class FieldsTest(parameterized.TestCase):
  @parameterized.parameters(
    {"quantizer.placement.init": "normal"},
    {"quantizer.commitment_cost": 0.5},
    {"quantizer.update.decay": 0.5},
    {"sampling.draw_in_evaluation": True},
    {"quantizer.choice.entropy_weight": 0.1},
    {"quantizer.choice.num_heads": 1},
    {"quantizer.placement.revive_below": 0.2},
    {"quantizer.choice": "distortion", "quantizer.choice.rate_weight": 0.1},
    {"quantizer.choice.logits": "weights"},
    {
      "quantizer.placement.init": "normal",
      "quantizer.placement.revive_below": 0.0,
      "quantizer.update": "smoothed_ema",
    },
    {"model.quantization_weight": 2.0},
    {"learning_rate": 1.0},
    {"data.image_size": 24},
  )
  def test_what_decoding_does_not_read_changes_nothing(self, **fields):
    there, wanted = tiny.config(**POOL), tiny.config(**POOL, **fields)
    self.assertNotEqual(there.to_dict(), wanted.to_dict())
    self.assertEqual(identity(**fields), default_identity())

  @parameterized.parameters(
    {"quantizer.structures": ((16, 4), (64, 1))},
    {"quantizer.output_kernel": 3},
    {"quantizer.selection_unit": "channels"},
    {"model.decoder_first_convolution": False},
    {"model.downsampling": 8},
    {"model.features": 16},
    {"model.network": "cnn_resnet"},
    {"data.channels": 1},
    {"dtype": "bfloat16"},
  )
  def test_what_decoding_reads_does(self, **fields):
    self.assertNotEqual(identity(**fields), default_identity())

  def test_a_field_of_a_later_version_changes_nothing_by_default(self):
    class VectorQuantizer(adq_jax.VectorQuantizer):
      decoding_fields: ClassVar[tuple[str, ...]] = (
        *adq_jax.VectorQuantizer.decoding_fields,
        "scale",
      )
      scale: float = 1.0
      of_training: float = 1.0

    def of(create, **fields):
      return identity(adq_jax.VQVAE(create(16, 4, 8, **fields), features=8))

    now = of(adq_jax.VectorQuantizer)
    self.assertEqual(of(VectorQuantizer), now)
    self.assertEqual(of(VectorQuantizer, of_training=2.0), now)
    self.assertNotEqual(of(VectorQuantizer, scale=2.0), now)

  def test_a_quantizer_that_names_no_fields_has_all_of_them(self):
    def of(levels):
      quantizer = toys.FSQ(8, levels=levels)
      return identity(adq_jax.VQVAE(quantizer, 3, "cnn", 8))

    self.assertEqual(of((3, 5)), of((3, 5)))
    self.assertNotEqual(of((3, 5)), of((5, 3)))

  def test_fields_of_decoding_are_fields(self):
    for module in (
      adq_jax.AdaptiveQuantizer,
      adq_jax.VectorQuantizer,
      adq_jax.VQVAE,
    ):
      fields = {field.name for field in dataclasses.fields(module)}
      self.assertContainsSubset(module.decoding_fields, fields)


class ArraysTest(parameterized.TestCase):
  @parameterized.parameters(
    "encoder/", "selector/", "project_in", "cluster_size", "embedding_sum"
  )
  def test_what_decoding_does_not_read_changes_nothing(self, name):
    self.assertEqual(identity(change=name), default_identity())

  @parameterized.parameters(
    "decoder/Conv_0/bias", "project_out/kernel", "embedding"
  )
  def test_what_decoding_reads_does(self, name):
    self.assertNotEqual(identity(change=name), default_identity())


# The quantizer of `fixed_16x4` in the config.json of earlier versions.
_FLAT = {
  "kind": "fixed",
  "capacity": 64,
  "structures": [[16, 4]],
  "selection": "attention",
  "rate_weight": 0.0,
  "selection_unit": "position",
  "selection_logits": "log_weights",
  "draw_in_evaluation": False,
  "num_heads": 2,
  "commitment_cost": 0.25,
  "decay": 0.9,
  "update_rule": "ema",
  "output_kernel": 1,
  "codebook_init": "data",
  "revive_below": 0.1,
}


class EarlierVersionsTest(parameterized.TestCase):
  def test_the_fields_that_they_hashed(self):
    root = pathlib.Path(self.create_tempdir())
    config = tiny.config("fixed_16x4", **{"model.network": "cnn"})
    model = build.create_model(config)
    variables = zeros(config, model)
    now = json.loads(json.dumps(config.to_dict()))
    stored = {**now, "quantizer": _FLAT}

    def is_of_the_run(**quantizer):
      fields = {name: stored[name] for name in ("dtype", "model")}
      fields["quantizer"] = {**stored["quantizer"], **quantizer}
      fields["arrays"] = checkpoint_file.array_hashes(variables)
      text = json.dumps(fields, sort_keys=True).encode()
      found = hashlib.sha256(text).hexdigest()
      return model_identity.matches(found, root, model, variables)

    files.write_json(root / workdirs.CONFIG, stored)
    self.assertTrue(is_of_the_run())
    self.assertTrue(is_of_the_run(shard_codebook=False))
    self.assertTrue(is_of_the_run(shard_codebook=False, entropy_weight=0.0))
    self.assertFalse(is_of_the_run(decay=0.5))
    self.assertFalse(is_of_the_run(shard_codebook=True))
    with self.subTest("a run that has them all"):
      full = {**_FLAT, "shard_codebook": False, "entropy_weight": 0.0}
      files.write_json(root / workdirs.CONFIG, {**stored, "quantizer": full})
      self.assertTrue(is_of_the_run(**full))
      self.assertFalse(is_of_the_run())
    with self.subTest("a run that goes on keeps the fields that they hashed"):
      files.write_json(root / workdirs.CONFIG, stored)
      (root / workdirs.METRICS).touch()
      config.num_steps *= 2
      with claims.claim(root, config):
        pass
      self.assertEqual(workdirs.read_config(root).num_steps, config.num_steps)
      self.assertTrue(is_of_the_run())
