"""Earlier spellings of a quantizer's options.

An option of a quantizer is an object in a slot, such as
`update=EmaUpdate(decay=0.9)`.  Before there were slots it was written
`update="ema", decay=0.9`, and programs that do so go on to work: keywords are
translated before a module's `__init__` sees them, and nothing else of a
quantizer knows of them.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any
from typing import ClassVar
from typing import Self

from adq_jax import checks
from adq_jax.codebook import updates
from adq_jax.quantizers import choice as choices


@dataclasses.dataclass(frozen=True)
class Slot:
  """How the object in a slot was written before.

  Attributes:
    field: of the module, whose values are frozen dataclasses.
    keywords: fields of these, by the keywords that stand for them.
    kind: the keyword that said which class it is; "" where there is one alone.
    kinds: these classes, by the values of that keyword.
  """

  field: str
  keywords: Mapping[str, str]
  kind: str = ""
  kinds: Mapping[str, type] = dataclasses.field(default_factory=dict)

  def translate(self, keywords: dict[str, Any], current: Any) -> dict[str, Any]:
    """Returns keywords of a module, with those of this slot as its object.

    Args:
      keywords: of a module.
      current: the object where the keywords say nothing of it.

    Raises:
      ValueError: if they contradict each other, or `kind` has another value.
    """
    keywords = dict(keywords)
    kind = self._take_kind(keywords)
    given = {
      name: keywords.pop(name) for name in self.keywords if name in keywords
    }
    said = kind | given
    if not said:
      return keywords
    if self.field in keywords:
      name, value = next(iter(said.items()))
      raise ValueError(
        f"{name} is {value!r}; it must be left out beside"
        f" {self.field}={keywords[self.field]!r}"
      )
    for name in kind.values():
      checks.check_choice(self.kind, name, tuple(self.kinds))
      current = _converted(current, self.kinds[name])
    changes = {
      self.keywords[name]: value
      for name, value in given.items()
      if self._is_of(current, name, value)
    }
    keywords[self.field] = dataclasses.replace(current, **changes)
    return keywords

  def _take_kind(self, keywords: dict[str, Any]) -> dict[str, Any]:
    """Removes the kind from keywords, if it is there, and returns it."""
    is_shared = self.kind == self.field  # by the name of a kind and an object
    if self.kind not in keywords or (
      is_shared and not isinstance(keywords[self.kind], str)
    ):
      return {}
    return {self.kind: keywords.pop(self.kind)}

  def _is_of(self, current: Any, name: str, value: Any) -> bool:
    """Whether a keyword is of an object, and not of another class.

    Raises:
      ValueError: if it is of another class, and not the default there.
    """
    field = self.keywords[name]
    if field in _fields_of(type(current)):
      return True
    owners = {
      kind: _fields_of(owner)[field].default
      for kind, owner in self.kinds.items()
      if field in _fields_of(owner)
    }
    if value in owners.values():
      return False
    kinds = [k for k, owner in self.kinds.items() if owner is type(current)]
    if not kinds or not owners:
      raise ValueError(
        f"{name} is {value!r}; it must be left out where {self.field} is"
        f" {current!r}"
      )
    default = next(iter(owners.values()))
    raise ValueError(
      f"{name} is {value!r} with {self.kind}={kinds[0]!r}; it must be"
      f" {default!r} unless that is {' or '.join(map(repr, owners))}"
    )


class Translated:
  """A module that accepts earlier spellings; the first base of its class.

  Attributes:
    slots: what is translated.
  """

  slots: ClassVar[tuple[Slot, ...]] = ()

  def __init_subclass__(cls, **kwargs: Any):
    super().__init_subclass__(**kwargs)
    # Flax has just generated it, of this class and not of its base.
    generated = cls.__init__

    @functools.wraps(generated)
    def init(self, *args, **keywords):
      current = {slot.field: getattr(cls, slot.field) for slot in cls.slots}
      generated(self, *args, **_translate(cls.slots, keywords, current))

    cls.__init__ = init

  def clone(self, **updates: Any) -> Self:
    """Returns a copy; see `flax.linen.Module.clone`."""
    current = {slot.field: getattr(self, slot.field) for slot in self.slots}
    return super().clone(**_translate(self.slots, updates, current))


def _translate(
  slots: tuple[Slot, ...], keywords: dict[str, Any], current: dict[str, Any]
) -> dict[str, Any]:
  for slot in slots:
    keywords = slot.translate(keywords, current[slot.field])
  return keywords


def _converted(value: Any, wanted: type) -> Any:
  """Returns an object of that class, with what it shares with a value."""
  common = _fields_of(type(value)).keys() & _fields_of(wanted).keys()
  return wanted(**{name: getattr(value, name) for name in common})


def _fields_of(kind: type) -> dict[str, dataclasses.Field]:
  return {field.name: field for field in dataclasses.fields(kind)}


OF_A_CODEBOOK = (
  Slot(
    "update",
    {"decay": "decay"},
    kind="update",
    kinds={
      "ema": updates.EmaUpdate,
      "smoothed_ema": updates.SmoothedEmaUpdate,
      "gradient": updates.GradientUpdate,
    },
  ),
  Slot("placement", {"codebook_init": "init", "revive_below": "revive_below"}),
)
"""The options of one codebook."""

OF_A_CHOICE = Slot(
  "choice",
  {
    "num_heads": "num_heads",
    "entropy_weight": "entropy_weight",
    "selection_logits": "logits",
    "rate_weight": "rate_weight",
  },
  kind="selection",
  kinds={
    "attention": choices.AttentionChoice,
    "distortion": choices.DistortionChoice,
  },
)
"""What chooses a codebook of a pool."""
