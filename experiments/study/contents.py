"""The tables: their titles, and the names of their rows."""

from collections.abc import Mapping
import dataclasses

from experiments.study import paper


@dataclasses.dataclass(frozen=True)
class Table:
  """The content of a table.

  Attributes:
    title: the title of the table.
    rows: the variants in it, each with its name in the table; None for the
      title of the variant itself.
    beside: the variant as the authors' code has it, for some of the rows; shown
      in columns of its own where it was trained.
  """

  title: str
  rows: Mapping[str, str | None]
  beside: Mapping[str, str] = dataclasses.field(default_factory=dict)


_FIXED = dict.fromkeys(paper.TABLE_1)
_AS_THE_CODE = {name: f"reference_{name}" for name in _FIXED}

RATES = 8  # the table whose rows are families of variants

TABLES = {
  1: Table("Fixed codebooks", _FIXED, _AS_THE_CODE),
  2: Table(
    "The best fixed codebook and the adaptive pool",
    {**_FIXED, "adaptive": "Adaptive codebook"},
  ),
  3: Table(
    "Variants of the adaptive pool",
    {**dict.fromkeys(paper.TABLE_3), "adaptive": "Base"},
  ),
  # The paper has no such table: what lowers the loss, and one codebook trained
  # the same way.
  4: Table(
    "Beyond the paper",
    dict.fromkeys(
      [
        "adaptive",
        "adaptive_lr_1e-3",
        "adaptive_lr_3e-3",
        "reference_flax_init",
        "reference_14_bits_flax_init",
        "improved",
        "improved_rate_3e-4",
        "improved_rate_1e-3",
        "improved_rate_3e-3",
        "improved_fixed_512x128",
        "improved_fixed_2048x32",
        "improved_fixed_8192x32",
        "improved_fixed_16384x8",
        "improved_fixed_131072x8",
      ]
    ),
  ),
  # The paper lacks this too: its text, each change that training sees, and all.
  5: Table(
    "What the authors' code does otherwise, one change at a time",
    {
      "adaptive": "As the paper's text",
      "reference_selection_unit": None,
      "reference_selection_logits": None,
      "reference_update_rule": None,
      "reference_output_kernel": None,
      "reference_decoder_first_convolution": None,
      "reference_kernels": None,
      "reference_biases": None,
      "reference_projections": None,
      "reference_attention": None,
      "reference_flax_init": "All but the initial values",
      "reference": None,
    },
  ),
  # And this: `improved` without one of its changes each, and what may keep
  # attention from settling on one codebook.
  6: Table(
    "What each change to the pool is worth",
    {
      "improved": None,
      "improved_lr_1e-3": None,
      "improved_constant_lr": None,
      "improved_normal_init": None,
      "improved_attention": None,
      "improved_attention_entropy_1e-4": (
        "The same, a bit of entropy earns 1e-4"
      ),
      "improved_attention_entropy_1e-3": (
        "The same, a bit of entropy earns 1e-3"
      ),
      "improved_attention_entropy_1e-2": (
        "The same, a bit of entropy earns 1e-2"
      ),
      "adaptive": None,
      "adaptive_entropy_1e-3": None,
      "adaptive_constant_temperature": None,
    },
  ),
  # Table 1 again, and the pool, as the code of the authors has them.
  7: Table(
    "As the authors' code",
    dict.fromkeys([*_AS_THE_CODE.values(), "reference", "reference_14_bits"]),
  ),
  # What bits families take for equal PSNR: its rows are made of these variants,
  # and of what else a directory has.
  RATES: Table(
    "BD-rate of families against fixed codebooks trained in the same way",
    dict.fromkeys(
      [
        *(f"improved_fixed_{n}x32" for n in (32, 128, 512, 2048, 8192, 32768)),
        "improved_rate_3e-3",
        "improved_rate_1e-3",
        "improved_rate_3e-4",
        "improved",
        "priced_fixed_2048x32",
        "priced_3x256x32",
        "priced_nominal_4x64x32",
      ]
    ),
  ),
}
"""By number: 1 to 3 are the paper's."""
