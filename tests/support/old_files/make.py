"""Makes a run of every kind of model, with a token file and what it decodes to.

    python -m tests.support.old_files.make DIRECTORY [KIND ...]

Each kind is one archive, KIND.zip.  The files of a version are made by the code
of that version, and kept: later ones must decode them.  Those in `version_1`
are of commit 23c2b32, and two kinds each in `version_2` of 10233ab and in
`version_3` of e889a55, with one CPU device.
"""

import pathlib
import sys
import tempfile
import zipfile

import numpy as np
from PIL import Image

from experiments.runs import workdir as workdirs
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.training import loop
from tests.support import tiny

# The variant, and what else makes a kind of model.
KINDS = {
  "fixed": ("fixed_16x4", {}),
  "attention": ("adaptive", {}),
  "distortion": ("improved", {}),
  "channels": ("adaptive", {"quantizer.selection_unit": "channels"}),
  "output_kernel": ("adaptive", {"quantizer.output_kernel": 3}),
  "bfloat16": ("adaptive", {"dtype": "bfloat16"}),
}
# Long enough that what is decoded is no even grey.
_SMALL = {
  "model.network": "cnn",
  "model.features": 4,
  "learning_rate": 0.01,
  "num_steps": 300,
  "log_every": 100,
  "eval_every": 300,
  "checkpoint_every": 300,
  "gradient_gap_every": 0,
}
SIDES = ((16, 16), (16, 16), (12, 8))  # of the images


def make(directory: pathlib.Path, kind: str) -> None:
  """Makes the archive of a kind of model in a folder."""
  variant, fields = KINDS[kind]
  config = tiny.config(variant, **_SMALL, **fields)
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    run, tokens = root / "run", root / "images.tokens"
    loop.train_and_evaluate(config, run)
    _make_images(root / "images")
    encoding.encode(config, run, root / "images", tokens)
    decoding.decode(config, run, tokens, root / "decoded")
    kept = [tokens, run / workdirs.CONFIG]
    kept += sorted((root / "decoded").iterdir())
    kept += (run / workdirs.FREQUENCIES).iterdir()
    kept += [
      path
      for path in sorted((run / workdirs.CHECKPOINTS).rglob("*"))
      # Orbax leaves there what it has merged.
      if path.is_file() and "ocdbt.process_0" not in path.parts
    ]
    with zipfile.ZipFile(
      directory / f"{kind}.zip", "x", zipfile.ZIP_DEFLATED
    ) as archive:
      for path in kept:
        archive.write(path, path.relative_to(root))


def _make_images(folder: pathlib.Path) -> None:
  """Makes smooth colours, which are unlike each other."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  for i, (height, width) in enumerate(SIDES):
    coarse = rng.integers(0, 256, (3, 3, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
    picture.save(folder / f"{i}.png")


if __name__ == "__main__":
  for each in sys.argv[2:] or KINDS:
    make(pathlib.Path(sys.argv[1]), each)
