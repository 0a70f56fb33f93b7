"""A model with a price encodes a folder at several rates."""

import re

import numpy as np
from PIL import Image
import pytest

from experiments.errors import UserError
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens.rate_target import BITS
from experiments.tokens.rate_target import PRICE
from experiments.tokens.rate_target import PSNR
from experiments.tokens.rate_target import Target
from experiments.training import loop
from tests.support import conversion
from tests.support import tiny


class FolderRateTest(conversion.Case):
  def setUp(self):
    super().setUp()
    self.config = tiny.config(
      "priced_2x8x4",
      **{
        "rate_weight.lowest": 1e-7,
        "rate_weight.highest": 1e-2,
        "num_steps": 100,
        "eval_every": 100,
        "checkpoint_every": 100,
        "learning_rate": 1e-2,
      },
    )
    loop.train_and_evaluate(self.config, self.run_dir)
    conversion.make_images(self.folder, ((64, 64), (32, 48), (64, 64)))

  def encoded(self, kind, value):
    """Returns coded bits for each pixel, the PSNR and the size of the file."""
    self.file.unlink(missing_ok=True)
    line = self.said(
      encoding.encode, self.folder, self.file, target=Target(kind, value)
    )
    bits = float(re.search(r"coded rate ([0-9.]+)", line)[1]) / 16
    output = self.root / f"{kind}_{value}"
    self.said(decoding.decode, self.file, output)
    squares, numbers = 0.0, 0
    for path in sorted(self.folder.rglob("*.*")):
      decoded = output / path.relative_to(self.folder).with_suffix(".png")
      pair = [np.asarray(Image.open(p), float) for p in (path, decoded)]
      squares += np.square(pair[0] - pair[1]).sum()
      numbers += pair[0].size
    psnr = 10 * np.log10(255**2 * numbers / squares)
    return bits, psnr, self.file.stat().st_size

  @pytest.mark.slow
  def test_rates(self):
    many, few = (self.encoded(PRICE, price) for price in (1e-7, 1e-2))
    self.assertGreater(many[0], few[0])
    self.assertGreater(many[1], few[1])
    self.assertGreater(many[2], few[2])
    wanted = (many[0] + few[0]) / 2
    bits, *_ = self.encoded(BITS, wanted)
    self.assertBetween(bits, 0.8 * wanted, wanted + 1e-3)
    wanted = round((many[1] + few[1]) / 2, 3)
    _, psnr, _ = self.encoded(PSNR, wanted)
    self.assertBetween(psnr, wanted - 1e-3, many[1])
    with self.assertRaisesRegex(
      UserError, "--bits_per_pixel is 20; with this model these images take"
    ):
      self.encoded(BITS, 20)
