import dataclasses
from unittest import mock

from absl.testing import parameterized
import flax.linen as nn

import adq_jax
from adq_jax import checks
from experiments.configs import changes
from experiments.configs import photo_patches
from experiments.configs import quantizers
from experiments.configs import variants
from experiments.configs import whole
from experiments.errors import UserError
from experiments.model import build
from experiments.model import check


@dataclasses.dataclass(frozen=True)
class WarmUpdate(adq_jax.EmaUpdate):
  """An update of a later version.

  Attributes:
    warmup: a field of its own.
  """

  warmup: int = 3

  def check(self):
    super().check()
    checks.check_at_least("warmup", self.warmup, 0)


class ScaledQuantizer(adq_jax.VectorQuantizer):
  """A quantizer of a later version.

  Attributes:
    scale: a field of its own.
  """

  scale: float = 0.5

  @nn.nowrap
  def check(self):
    super().check()
    if self.scale <= 0:
      raise ValueError(f"scale is {self.scale}; it must be positive")


class QuantizersTest(parameterized.TestCase):
  def test_a_block_has_the_fields_of_its_kind_alone(self):
    placement = {
      "init": "normal",
      "revive_below": 0.0,
      "revive_updates": 0,
      "kmeans_iterations": 10,
    }
    update = {"kind": "ema", "decay": 0.99}
    common = {
      "commitment_cost": 0.25,
      "update": update,
      "placement": placement,
      "estimator": {"kind": "straight_through"},
      "output_kernel": 1,
      "projection_init": "identity",
      "price": {"kind": "none"},
    }
    self.assertEqual(
      quantizers.vector(512, 64),
      {
        "kind": "vector",
        "codebook_size": 512,
        "embedding_dim": 64,
        "shard_codebook": False,
        "codewords": {"kind": "free"},
        "similarity": {"kind": "euclidean"},
        "assignment": {"kind": "nearest"},
        **common,
      },
    )
    self.assertEqual(
      quantizers.adaptive(),
      {
        "kind": "adaptive",
        "capacity": 65_536,
        "structures": (),
        "choice": {
          "kind": "attention",
          "num_heads": 2,
          "entropy_weight": 0.0,
          "logits": "log_weights",
          "input_init": "lecun_normal",
        },
        "selection_unit": "position",
        **common,
      },
    )

  @parameterized.parameters(
    (None,), (3,), ({},), ({"kind": "adaptive"},), ({"update": 3},)
  )
  def test_what_says_no_kind_has_the_default(self, block):
    self.assertEqual(quantizers.defaults(block), quantizers.adaptive())

  @parameterized.parameters(
    ({"kind": "vq"}, "config.quantizer.kind is 'vq'; .* adaptive, vector"),
    ({"kind": ["a"]}, r"config.quantizer.kind is \['a'\]; it must be one of"),
    ({"update": {"kind": None}}, "quantizer.update.kind is None; .* one of"),
  )
  def test_there_is_no_such_kind(self, block, message):
    with self.assertRaisesRegex(UserError, message):
      quantizers.defaults(block)

  def test_only_sizes_are_required(self):
    self.assertEqual(
      quantizers.required(quantizers.vector(1, 1)),
      ["codebook_size", "embedding_dim"],
    )
    self.assertEqual(quantizers.required(quantizers.adaptive()), [])

  def test_what_says_how_large_a_quantizer_is(self):
    pool = quantizers.adaptive()
    self.assertEqual(quantizers.sized_by(pool), ["capacity"])
    pool["structures"] = ((4, 2),)
    self.assertEqual(quantizers.sized_by(pool), ["structures"])
    self.assertEqual(
      quantizers.sized_by(quantizers.vector(4, 2)),
      ["codebook_size", "embedding_dim"],
    )

  @parameterized.parameters(*quantizers.kinds())
  def test_every_kind_says_nothing_but_what_fields_can_hold(self, kind):
    config = photo_patches.get_config("adaptive")
    block = quantizers.defaults({"kind": kind})
    for name in quantizers.required(block):
      block[name] = (8,) if isinstance(block[name], tuple) else 8
    config.quantizer = block
    whole.check_types(config)


class NewFieldTest(parameterized.TestCase):
  """A class with a field of its own needs no edit but its row."""

  def setUp(self):
    super().setUp()
    updates = quantizers.slots()["update"] | {"warm": WarmUpdate}
    self.enter_context(mock.patch.dict(quantizers.slots(), {"update": updates}))
    kind = quantizers.Kind(ScaledQuantizer)
    self.enter_context(mock.patch.dict(quantizers.kinds(), {"vector": kind}))

  def changed(self, **texts):
    config = photo_patches.get_config("quick_start_attention")
    variants.apply(config, "fixed_16x4")
    changes.apply_texts(
      config, [(f"quantizer.{name}", text) for name, text in texts.items()]
    )
    check.check(config)
    return config

  def test_of_an_object_in_a_slot(self):
    config = self.changed(update="warm")
    self.assertEqual(config.quantizer["update"].warmup, 3)
    # The quick start's own, which both updates have.
    self.assertEqual(config.quantizer["update"].decay, 0.9)
    config = self.changed(**{"update": "warm", "update.warmup": "5"})
    quantizer = build.create_quantizer(config)
    self.assertEqual(quantizer.update, WarmUpdate(decay=0.9, warmup=5))
    for text, message in (
      ("x", "quantizer.update.warmup is 'x'; it must be an integer"),
      ("-1", "quantizer.update.warmup is -1; it must be at least 0"),
    ):
      with self.assertRaisesRegex(UserError, message):
        self.changed(**{"update": "warm", "update.warmup": text})

  def test_of_a_quantizer(self):
    config = self.changed(scale="2")
    self.assertEqual(build.create_quantizer(config).scale, 2.0)
    values = config.to_dict()
    del values["quantizer"]["scale"]  # as in a config.json of before
    self.assertEqual(whole.complete(values).quantizer.scale, 0.5)
    with self.assertRaisesRegex(UserError, "quantizer.scale is 0.0; it must"):
      self.changed(scale="0")
