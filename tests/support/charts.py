"""Charts of fake runs, and what they show."""

import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments.configs import variant_table
from experiments.configs.variant_table import Variant
from experiments.study import paper
from tests.support import fake_runs

# The structures of the paper's pool.
NAMES = ["[512,128]", "[1024,64]", "[2048,32]", "[4096,16]", "[8192,8]"]
NAMES += ["[16384,4]", "[32768,2]", "[65536,1]"]


def labels(ax):
  """Returns the labels of the lines of a panel."""
  return [line.get_label() for line in ax.get_lines()]


def make_misnamed(
  case: parameterized.TestCase, root: pathlib.Path
) -> dict[str, Variant]:
  """Makes runs of variants whose names say something else than they are."""
  known = {
    name: Variant(
      f"title {name}",
      group,
      {
        "quantizer.kind": "vector",
        "quantizer.codebook_size": structure[0],
        "quantizer.embedding_dim": structure[1],
      },
      label=f"label {name}",
    )
    for name, group, structure in (
      ("fixed_1x1", "improved_fixed", (512, 128)),
      ("adaptive_rate", "improved", (2048, 32)),
      ("improved_fixed_8x8", "adaptive", (4096, 16)),
    )
  }
  case.enter_context(mock.patch.dict(variant_table.VARIANTS, known))
  case.enter_context(
    mock.patch.dict(paper.TABLE_1, {name: (0.5,) * 6 for name in known})
  )
  for i, name in enumerate(known):
    fake_runs.make(root, "mnist", name, loss=0.2 + 0.1 * i)
  return known
