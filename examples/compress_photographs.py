"""Compresses a folder of photographs at three rates, with one trained model.

python -m experiments.main --config=experiments/configs/photo_patches.py
python examples/compress_photographs.py --input=FOLDER
"""

import contextlib
import pathlib
import sys
import tempfile

from absl import flags
from absl import logging
import numpy as np

# `pip install` leaves out the experiments, which are beside this folder.
sys.path.append(str(pathlib.Path(__file__).parents[1]))


def compress(
  workdir: pathlib.Path, folder: pathlib.Path, prices: list[float]
) -> None:
  """Prints what photographs take at each price of a bit, and their PSNR."""
  from experiments.data import images as image_files
  from experiments.runs import workdir as workdirs
  from experiments.tokens import decoding
  from experiments.tokens import encoding
  from experiments.tokens import image_folder
  from experiments.tokens.rate_target import Target

  config = workdirs.read_config(workdir)
  channels = config.data.channels
  # What is encoded: edges are cut to multiples of the model's downsampling.
  batches = image_folder.Batches(
    folder, config.model.downsampling, channels, crop=True
  )
  originals = {
    image_folder.decoded_name(name): image
    for names, images, _ in batches.read("Reading", skip_bad=False)
    for name, image in zip(names, images, strict=True)
  }
  pixels = sum(image[..., 0].size for image in originals.values())
  print(f"{len(originals)} photographs, {pixels:,} pixels")
  for price in prices:
    with tempfile.TemporaryDirectory() as name:
      tokens, decoded = pathlib.Path(name, "tokens"), pathlib.Path(name, "out")
      with contextlib.redirect_stdout(None):  # they print what they wrote
        target = Target("rate_weight", price)
        encoding.encode(
          config, workdir, folder, tokens, crop=True, target=target
        )
        decoding.decode(config, workdir, tokens, decoded)
      size = tokens.stat().st_size
      errors = [
        image_files.read(decoded / name, channels) - image.astype(float)
        for name, image in originals.items()
      ]
    square = sum((error**2).sum() for error in errors) / (pixels * channels)
    print(
      f"price {price:.0e}: {size:,} bytes, {8 * size / pixels:.3f} bits per"
      f" pixel, {10 * np.log10(255**2 / square):.2f} dB"
    )


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)  # Orbax tells much
  given = flags.FLAGS
  prices = [float(price) for price in given.prices]
  compress(pathlib.Path(given.workdir), pathlib.Path(given.input), prices)


if __name__ == "__main__":
  from experiments.processes import command

  flags.DEFINE_string("workdir", "runs/photo_patches_quick_start", "The run.")
  flags.DEFINE_string("input", None, "Folder of photographs.", required=True)
  flags.DEFINE_list("prices", ["2e-5", "2e-4", "2e-3"], "What a bit costs.")
  command.run(main)  # which tells errors of a user in a line
