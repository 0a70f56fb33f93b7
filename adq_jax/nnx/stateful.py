"""A quantizer or a model together with its variables, as NNX has modules."""

from collections.abc import Mapping
from typing import Any

from flax import nnx
from flax import traverse_util
import jax
import jax.numpy as jnp

from adq_jax.models.vqvae import VQVAE
from adq_jax.quantizers.base import Quantizer
from adq_jax.quantizers.collection import COLLECTION

_PARAMS = "params"
_Rngs = nnx.Rngs | Mapping[str, jax.Array]


class CodebookState(nnx.Variable):
  """A variable that training moves without a gradient: codewords, and counts.

  It is no `nnx.Param`, so that `nnx.grad` and optimizers leave it alone, and
  `nnx.split(model, nnx.Param, CodebookState, ...)` has it apart.
  `nnx.bridge.ToNNX` makes it too, of the collection `"codebook"`.

  Example:
    >>> from flax import nnx
    >>> from adq_jax import VectorQuantizer
    >>> from adq_jax.nnx import CodebookState, Stateful
    >>> quantizer = Stateful(VectorQuantizer(16, 8), rngs=nnx.Rngs(0))
    >>> state = nnx.state(quantizer, CodebookState)
    >>> sorted(state["variables"]["codebook"])
    ['cluster_size', 'embedding', 'embedding_sum', 'initialized']
  """


# Another library may have a collection of that name, with a type of its own.
nnx.register_variable_name(COLLECTION, CodebookState, overwrite=True)


class Stateful(nnx.Module):
  """A quantizer, or a `VQVAE`, with its variables: a module of NNX.

  It computes what the Flax Linen module does that it is made of, to the bit.
  What `mutable` and `rngs` are for there, it does itself: a call in training
  updates the codebook in place, and takes its keys from `nnx.Rngs`.

  As all modules of NNX, it begins in training.  `train()` and `eval()`, of it
  or of a module that has it, set two attributes.

  Attributes:
    linen: the module that it is made of.  What depends on the fields alone,
      such as `streams` and `to_streams`, is asked of this.
    variables: `nnx.Variable`s by collection, as `linen` names them: `nnx.Param`
      in `"params"`, `CodebookState` in `"codebook"`.
    rngs: the streams that training draws keys from, `linen.rng_streams`.
    use_running_average: whether calls leave the codebook as it is; then they
      are evaluation.
    deterministic: whether no code is sampled, where `linen` can sample them.

  Example:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from adq_jax import VectorQuantizer
    >>> from adq_jax.nnx import Stateful
    >>> quantizer = Stateful(VectorQuantizer(16, 8), rngs=nnx.Rngs(0))
    >>> z = jnp.ones((4, 8))
    >>> result = quantizer(z)  # the codebook moves
    >>> quantizer.variables["codebook"]["cluster_size"].shape
    (16,)
    >>> quantizer.eval()
    >>> codes = quantizer.encode(z)
    >>> bool((quantizer.decode(codes) == quantizer(z).values).all())
    True
  """

  def __init__(self, linen: Quantizer | VQVAE, *, rngs: nnx.Rngs):
    """Initializes the variables.

    Args:
      linen: the module, with whatever fields.
      rngs: the streams `"params"` and, if it has that, `"codebook"` initialize,
        as the keys of these names do in `linen.init`.  Of each stream in
        `linen.rng_streams` a key is taken, from which those of training come.
        The stream `"default"` stands in for any but `"codebook"` at first.

    Raises:
      ValueError: if `linen` is another module or one of its fields does not
        fit, or if `rngs` is no `nnx.Rngs` or cannot initialize.
    """
    _check_linen(linen)
    if not isinstance(rngs, nnx.Rngs):
      raise ValueError(f"rngs is {rngs!r}; it must be an nnx.Rngs")
    keys = _take(rngs, [_PARAMS])
    if not keys:
      raise ValueError(
        f"rngs has the streams {list(rngs)}; it must have"
        f' "{_PARAMS}", or a default: nnx.Rngs(0)'
      )
    if COLLECTION in rngs:
      keys |= _take(rngs, [COLLECTION])
    # As one program; one by one, its many operations take long to compile.
    made = jax.jit(linen.init)(keys, jnp.zeros(linen.example_shape))
    self.linen = linen
    self.variables = nnx.data(
      {name: _as_variables(name, tree) for name, tree in made.items()}
    )
    self.rngs = nnx.Rngs(**_take(rngs, linen.rng_streams))
    self.use_running_average = False
    self.deterministic = False

  def set_view(
    self,
    deterministic: bool | None = None,
    use_running_average: bool | None = None,
  ) -> None:
    """Sets attributes that are not None, for `nnx.view`."""
    if deterministic is not None:
      self.deterministic = deterministic
    if use_running_average is not None:
      self.use_running_average = use_running_average

  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool | None = None,
    draw: bool | jax.Array | None = None,
    rngs: _Rngs | None = None,
    **keywords: Any,
  ) -> Any:
    """Quantizes z, or reconstructs images, and in training moves the codewords.

    Args:
      x: floating `[..., C]`; of a `VQVAE` images `[B, H, W, channels]`.
      train: whether to update the codebook; by default what `train()` or
        `eval()` said.
      draw: whether codes are sampled.  By default in training alone, or as
        `deterministic` says where `train` is left out.
      rngs: streams, or a key for each stream; by default those of the module.
      **keywords: as of the call of `linen`: `mask`, `rate_weight`, ...

    Returns:
      A `Quantized`, or a `Reconstruction`.

    Raises:
      ValueError: as the call of `linen`; nothing has changed then.
    """
    if train is None:
      train = not self.use_running_average
      if draw is None and self.linen.draws:
        draw = not self.deterministic
    if draw is not None:
      keywords["draw"] = draw
    keys = {}
    if train or (draw is not None and draw is not False):
      keys = self._take_keys(rngs)
    return self._apply(x, is_update=train, rngs=keys, train=train, **keywords)

  def encode(self, x: jax.Array, **keywords: Any) -> Any:
    """Returns the codes that evaluation gives x, whatever the mode.

    Args:
      x: as of the call.
      **keywords: as of `linen.encode`: `rate_weight`.
    """
    return self._apply(x, method="encode", **keywords)

  def decode(self, codes: Any, **keywords: Any) -> jax.Array:
    """Returns the values, or the images, of codes.

    Args:
      codes: from `encode`, or from the result of a call.
      **keywords: as of `linen.decode`.
    """
    return self._apply(codes, method="decode", **keywords)

  def update_codebook(self, statistics: Any) -> None:
    """Moves the codewords by the statistics of results, summed up or not.

    See `VectorQuantizer.update_codebook`.
    """
    self._apply(statistics, method="update_codebook", is_update=True)

  def linen_variables(self) -> dict[str, Any]:
    """Returns arrays, as `linen.apply` takes them."""
    return jax.tree.map(
      lambda variable: variable.get_value(),
      self.variables,
      is_leaf=lambda x: isinstance(x, nnx.Variable),
    )

  def set_variables(self, variables: Mapping[str, Any]) -> None:
    """Puts arrays into the variables.

    Args:
      variables: as `linen` has them, all or some, such as
        `{"codebook": codebook_from(embedding).to_collection()}`.

    Raises:
      ValueError: if one of them is no variable of this module.
    """
    own = traverse_util.flatten_dict(self.variables, sep="/")
    given = traverse_util.flatten_dict(variables, sep="/")
    for name in given:
      if name not in own:
        raise ValueError(
          f"variables has {name!r}; it must have names of {sorted(own)} alone"
        )
    for name, value in given.items():
      own[name].set_value(value)

  def _apply(self, *args: Any, is_update: bool = False, **keywords: Any) -> Any:
    """Applies `linen`, and keeps what it updates."""
    variables = self.linen_variables()
    if not is_update:
      return self.linen.apply(variables, *args, **keywords)
    mutable = [name for name in variables if name != _PARAMS]
    result, updates = self.linen.apply(
      variables, *args, mutable=mutable, **keywords
    )
    self.set_variables(updates)
    return result

  def _take_keys(self, rngs: _Rngs | None) -> dict[str, jax.Array]:
    """Returns a key for each stream of a call; see there."""
    rngs = self.rngs if rngs is None else rngs
    if isinstance(rngs, nnx.Rngs):
      return _take(rngs, self.linen.rng_streams)
    return dict(rngs)


def _check_linen(linen: Any) -> None:
  """Raises a ValueError unless it can be made stateful."""
  if not isinstance(linen, Quantizer | VQVAE):
    raise ValueError(
      f"linen is {linen!r}; it must be a Quantizer or a VQVAE"
      " (nnx.bridge.ToNNX takes other modules)"
    )
  quantizer = linen.quantizer if isinstance(linen, VQVAE) else linen
  if quantizer.train is not None:
    raise ValueError(
      f"the quantizer has the field train={quantizer.train}; it must be None,"
      " because train() and eval() say it"
    )


def _take(rngs: nnx.Rngs, names: Any) -> dict[str, jax.Array]:
  """Returns a key of each stream that there is, itself or by default.

  A quantizer that needs another one says that it is missing.
  """
  return {
    name: rngs[name]() for name in names if name in rngs or "default" in rngs
  }


def _as_variables(collection: str, arrays: Any) -> Any:
  kind = nnx.variable_type_from_name(collection, allow_register=True)
  return jax.tree.map(kind, arrays)
