"""Earlier spellings of options."""

import dataclasses
import pickle

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp

from adq_jax import AdaptiveQuantizer
from adq_jax import AttentionChoice
from adq_jax import DistortionChoice
from adq_jax import EmaUpdate
from adq_jax import GradientUpdate
from adq_jax import Placement
from adq_jax import SmoothedEmaUpdate
from adq_jax import VectorQuantizer


def vector(**fields):
  return VectorQuantizer(20, 3, features=4, **fields)


def pool(**fields):
  return AdaptiveQuantizer(((20, 3), (12, 2)), 4, **fields)


@dataclasses.dataclass(frozen=True)
class HalfwayUpdate(EmaUpdate):
  """An update of a user."""


@dataclasses.dataclass(frozen=True)
class OddChoice(AttentionChoice):
  """A choice of a user."""


@parameterized.parameters(vector, pool)
class OfACodebookTest(parameterized.TestCase):
  def test_both_spellings_are_equal(self, make):
    for old, new in (
      ({}, {"update": EmaUpdate(), "placement": Placement()}),
      ({"update": "ema"}, {}),
      ({"decay": 0.9}, {"update": EmaUpdate(0.9)}),
      ({"update": "smoothed_ema"}, {"update": SmoothedEmaUpdate()}),
      ({"update": "gradient", "decay": 0.9}, {"update": GradientUpdate(0.9)}),
      ({"codebook_init": "data"}, {"placement": Placement("data")}),
      (
        {"update": "ema", "decay": 0.9, "revive_below": 0.1},
        {"update": EmaUpdate(0.9), "placement": Placement("normal", 0.1)},
      ),
    ):
      self.assertEqual(make(**old), make(**new))
      self.assertEqual(hash(make(**old)), hash(make(**new)))
      self.assertNotEqual(make(**old, commitment_cost=0.5), make(**new))

  def test_a_clone_changes_what_it_is_told_to(self, make):
    quantizer = make(update="gradient", decay=0.9)
    for fields, expected in (
      ({"decay": 0.5}, GradientUpdate(0.5)),
      ({"update": "smoothed_ema"}, SmoothedEmaUpdate(0.9)),
      ({"update": "ema", "decay": 0.5}, EmaUpdate(0.5)),
      ({"update": EmaUpdate()}, EmaUpdate()),
      ({"axis_name": "devices"}, GradientUpdate(0.9)),
    ):
      self.assertEqual(quantizer.clone(**fields).update, expected)
      self.assertEqual(quantizer.copy(**fields).update, expected)
    placed = make(codebook_init="data").clone(revive_below=0.5)
    self.assertEqual(placed.placement, Placement("data", 0.5))
    custom = make(update=HalfwayUpdate()).clone(decay=0.5)
    self.assertEqual(custom.update, HalfwayUpdate(0.5))

  def test_an_object_beside_a_keyword_of_it_is_refused(self, make):
    for fields, message in (
      (
        {"update": EmaUpdate(), "decay": 0.5},
        r"decay is 0.5; it must be left out beside update=EmaUpdate\(",
      ),
      (
        {"placement": Placement(), "codebook_init": "data"},
        "codebook_init is 'data'; it must be left out beside placement=",
      ),
      (
        {"placement": Placement(), "revive_below": 0.0},
        "revive_below is 0.0; it must be left out beside placement=",
      ),
      ({"update": "adam"}, "update is 'adam'; it must be one of 'ema', 'smo"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        make(**fields)
      with self.assertRaisesRegex(ValueError, message):
        make().clone(**fields)

  def test_other_keywords_are_refused_as_ever(self, make):
    with self.assertRaisesRegex(TypeError, "unexpected keyword .*'decoy'"):
      make(decoy=0.5)
    with self.assertRaises(AttributeError):
      _ = make(decay=0.5).decay

  def test_it_is_pickled_and_static(self, make):
    quantizer = make(update="gradient", decay=0.9)
    self.assertEqual(pickle.loads(pickle.dumps(quantizer)), quantizer)
    self.assertEqual(dataclasses.replace(quantizer), quantizer)
    traces = []

    @jax.jit(static_argnums=0)
    def shape(quantizer, z):
      traces.append(quantizer)
      return quantizer.check() or z

    for same in (quantizer, make(update=GradientUpdate(0.9))):
      shape(same, jnp.ones(2))
    self.assertLen(traces, 1)

  def test_a_subclass_accepts_them(self, make):
    class Other(type(make())):
      scale: float = 1.0

    quantizer = make()
    fields = {
      field.name: getattr(quantizer, field.name)
      for field in dataclasses.fields(quantizer)
      if field.name not in ("update", "placement")
    }
    other = Other(**fields, update="gradient", decay=0.9, scale=2.0)
    self.assertEqual(other.update, GradientUpdate(0.9))
    self.assertEqual(other.clone(decay=0.5).update, GradientUpdate(0.5))
    self.assertEqual(other.clone(decay=0.5).scale, 2.0)


class OfAChoiceTest(parameterized.TestCase):
  def test_both_spellings_are_equal(self):
    for old, new in (
      ({}, AttentionChoice()),
      ({"selection": "attention"}, AttentionChoice()),
      ({"num_heads": 1}, AttentionChoice(num_heads=1)),
      (
        {"entropy_weight": 0.1, "selection_logits": "weights"},
        AttentionChoice(entropy_weight=0.1, logits="weights"),
      ),
      ({"selection": "distortion"}, DistortionChoice()),
      (
        {"selection": "distortion", "rate_weight": 0.1},
        DistortionChoice(rate_weight=0.1),
      ),
      # What another choice would have by default says nothing.
      (
        {"selection": "distortion", "num_heads": 2, "entropy_weight": 0.0},
        DistortionChoice(),
      ),
    ):
      self.assertEqual(pool(**old), pool(choice=new))
      self.assertEqual(pool().clone(**old).choice, new)

  def test_a_keyword_of_another_choice_is_refused(self):
    for fields, message in (
      ({"rate_weight": 0.1}, "rate_weight is 0.1 with selection='attention'"),
      (
        {"selection": "distortion", "num_heads": 4},
        "num_heads is 4 with .*must be 2 unless that is 'attention'",
      ),
      (
        {"selection": "random"},
        "selection is 'random'; it must be one of",
      ),
      (
        {"choice": DistortionChoice(), "rate_weight": 0.1},
        "rate_weight is 0.1; it must be left out beside choice=Distort",
      ),
      (
        {"choice": DistortionChoice(), "selection": "attention"},
        "selection is 'attention'; it must be left out beside choice=Distort",
      ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        pool(**fields)

  def test_a_choice_of_a_user_has_its_own_fields(self):
    quantizer = pool(choice=OddChoice())
    self.assertEqual(quantizer.clone(num_heads=1).choice, OddChoice(1))
    with self.assertRaisesRegex(ValueError, "rate_weight is 0.1; .* left out"):
      quantizer.clone(rate_weight=0.1)


class TrainingTest(parameterized.TestCase):
  def test_a_module_within_a_module_is_the_same(self):
    def values(**fields):
      quantizer = pool(**fields)
      z = jnp.arange(32.0).reshape(8, 4)
      return jax.eval_shape(quantizer.init, jax.random.key(0), z)

    chex.assert_trees_all_equal_shapes_and_dtypes(
      values(update="gradient"), values(update=GradientUpdate())
    )
