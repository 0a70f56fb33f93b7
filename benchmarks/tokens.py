"""Measures a token file: its size, and the time that coding takes.

python -m benchmarks.tokens --workdir=DIR

Encodes images of the validation split of a trained run.  The time in the coder
is that of all that makes a chunk's bytes of its codes and names.
"""

import contextlib
import io
import pathlib
import tempfile
import time
from unittest import mock

from absl import app
from absl import flags
from PIL import Image

from benchmarks import timing
from experiments import data
from experiments.data import augment
from experiments.runs import workdir as workdirs
from experiments.tokens import coded_chunks
from experiments.tokens import encoding

_WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
_IMAGES = flags.DEFINE_integer("images", 1000, "The number of images.")


def main(argv: list[str]) -> None:
  del argv
  timing.two_threads()
  workdir = pathlib.Path(_WORKDIR.value)
  config = workdirs.read_config(workdir)
  split = data.load(config)["validation"].subsample(_IMAGES.value)
  images = augment.crop_centre(split.images[:], config.data.image_size)
  seconds, to_bytes = [], coded_chunks.to_bytes

  def timed(*arguments):
    started = time.perf_counter()
    found = to_bytes(*arguments)
    seconds.append(time.perf_counter() - started)
    return found

  output = io.StringIO()
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    (root / "images").mkdir()
    for i, image in enumerate(images):
      path = root / "images" / f"{i:05d}.png"
      Image.fromarray(image.squeeze()).save(path)
    started = time.perf_counter()
    with (
      mock.patch.object(coded_chunks, "to_bytes", timed),
      contextlib.redirect_stdout(output),
    ):
      encoding.encode(config, workdir, root / "images", root / "x.tokens")
    total = time.perf_counter() - started
  print(output.getvalue().removeprefix(name).strip("/ \n"))
  coder = sum(seconds)
  print(
    f"{total:.2f} s, of them {1000 * coder:.1f} ms ({coder / total:.1%}) in the"
    f" coder, for {len(seconds)} chunks"
  )


if __name__ == "__main__":
  app.run(main)
