"""What a folder takes at a price, and how a model meets a target with it."""

import functools
import math
import pathlib
import re
import shutil
import tempfile

from absl.testing import parameterized
import jax
import numpy as np
from PIL import Image
import pytest

from adq_jax import CodedPrice
from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from adq_jax.streams import symbols
from experiments.errors import UserError
from experiments.runs import frequencies
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens import folder_rate
from experiments.tokens.image_folder import Batches
from experiments.tokens.rate_target import BITS
from experiments.tokens.rate_target import PRICE
from experiments.tokens.rate_target import PSNR
from experiments.tokens.rate_target import Target
from experiments.training import loop
from tests.support import conversion
from tests.support import tiny

PRICES = (1e-5, 1e-3, 1e-1)


class MeasureTest(parameterized.TestCase):
  """With codewords on the data, and a decoder that was never trained."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.made = pathlib.Path(directory.name) / "images"
    conversion.make_images(cls.made, ((64, 64), (32, 48), (64, 64)))
    cls.images = [
      np.asarray(Image.open(path), np.float32)[None] / 255 - 0.5
      for path in sorted(cls.made.rglob("*.*"))
    ]
    cls.model = VQVAE(
      VectorQuantizer(
        16,
        4,
        features=8,
        price=CodedPrice(),
        placement=Placement(init="data"),
      ),
      network="cnn",
      features=8,
    )
    key = jax.random.key(0)
    rngs = {"params": key, "codebook": key}
    variables = jax.jit(cls.model.init)(rngs, cls.images[0])
    learn = functools.partial(
      cls.model.apply, train=True, rngs=rngs, mutable=["codebook"]
    )
    _, learned = jax.jit(learn)(variables, cls.images[0])
    symbol = symbols(cls.model.streams)
    counts = [np.arange(1, 17) ** power for power in (1, 2, 3)]
    cls.known = frequencies.of_counts(symbol, [[c] for c in counts], PRICES)
    tables = frequencies.to_collection(cls.known, symbol)
    cls.variables = {**variables, **learned, **tables}
    encode = functools.partial(cls.model.apply, method="encode")
    cls.encode = staticmethod(jax.jit(encode))

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir()) / "images"
    shutil.copytree(self.made, self.folder)

  def measure(self, flag, skip_bad=False):
    return folder_rate.make_measure(
      self.model,
      self.variables,
      self.known,
      Batches(self.folder, 4, 3, crop=False),
      skip_bad,
      flag,
    )

  def test_bits_are_those_of_the_mixed_tables(self):
    price = 1e-2
    row, last = (self.known.tables[0][i].astype(float) for i in (1, 2))
    table = (row + last) / 2
    codes = [
      np.ravel(self.encode(self.variables, images, rate_weight=price))
      for images in self.images
    ]
    expected = -np.log2(table / table.sum())[np.concatenate(codes)].sum()
    pixels = 2 * 64 * 64 + 32 * 48
    self.assertAlmostEqual(
      self.measure(BITS)(price), expected / pixels, places=4
    )

  def test_psnr_is_of_pixels_as_they_are_written(self):
    price, squares, numbers = 1e-4, 0.0, 0
    decode = jax.jit(functools.partial(self.model.apply, method="decode"))
    for images in self.images:
      codes = self.encode(self.variables, images, rate_weight=price)
      decoded = np.asarray(decode(self.variables, codes), float)
      pixels = np.clip(np.round(255 * (decoded + 0.5)), 0, 255)
      squares += np.square(pixels - 255 * (images + 0.5)).sum()
      numbers += images.size
    expected = 10 * np.log10(255**2 * numbers / squares)
    self.assertAlmostEqual(self.measure(PSNR)(price), expected, places=3)

  def test_a_target_of_bits_is_met(self):
    measure = self.measure(BITS)
    most, least = measure(PRICES[0]), measure(PRICES[-1])
    self.assertGreater(most, 1.2 * least)
    wanted = math.sqrt(most * least)
    price = Target(BITS, wanted).find_price(measure, PRICES[0], PRICES[-1])
    self.assertBetween(measure(price), 0.98 * wanted, wanted)

  def test_files_that_turn_out_to_be_bad(self):
    path = self.folder / "2.png"
    path.write_bytes(path.read_bytes()[:-100])
    with self.assertRaisesRegex(UserError, "1 file of .* 2.png .*--skip_bad$"):
      self.measure(PSNR)(1e-3)
    with self.subTest("left out"):
      found = self.measure(PSNR, skip_bad=True)(1e-3)
      path.unlink()
      self.assertEqual(self.measure(PSNR)(1e-3), found)
    for path in self.folder.rglob("*.*"):
      path.write_bytes(path.read_bytes()[:-100])
    with self.assertRaisesRegex(UserError, "2 files of .* take them away$"):
      self.measure(PSNR, skip_bad=True)(1e-3)


class TrainedTest(conversion.Case):
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
    prices = (1e-7, 2e-3, 1e-2)
    many, some, few = (self.encoded(PRICE, price) for price in prices)
    for more, less in ((many, some), (some, few)):
      for of_more, of_less in zip(more, less, strict=True):
        self.assertGreater(of_more, of_less)
    wanted = (many[0] + few[0]) / 2
    bits, *_ = self.encoded(BITS, wanted)
    self.assertBetween(bits, 0.98 * wanted, wanted + 1e-3)
    wanted = round((many[1] + few[1]) / 2, 3)
    _, psnr, _ = self.encoded(PSNR, wanted)
    self.assertBetween(psnr, wanted - 1e-3, wanted + 0.05)
    with self.assertRaisesRegex(
      UserError, "--bits_per_pixel is 20; with this model"
    ):
      self.encoded(BITS, 20)
