import contextlib
import io
import os
from unittest import mock

from PIL import Image

from experiments.errors import UserError
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens import image_folder as folders
from experiments.tokens import token_file
from experiments.tokens.rate_target import BITS
from experiments.tokens.rate_target import PRICE
from experiments.tokens.rate_target import PSNR
from experiments.tokens.rate_target import Target
from tests.support import conversion
from tests.support import untrained


class EncodeTest(conversion.UntrainedCase):
  def test_sides_that_are_no_multiples(self):
    conversion.make_images(self.folder, ((16, 16), (18, 16), (16, 23)))
    self.refused(
      r"2 files of .* 2.png \(23 x 16 pixels, sides that are no multiples of"
      r" 4\), below/x.bmp \(16 x 18 .*; put .* multiples of 4 with --crop",
      encoding.encode,
      self.folder,
      self.file,
    )
    self.said(encoding.encode, self.folder, self.file, crop=True)
    self.said(decoding.decode, self.file, self.output)
    with Image.open(self.output / "below" / "x.png") as image:
      self.assertEqual(image.size, (16, 16))
    with Image.open(self.output / "2.png") as image:
      self.assertEqual(image.size, (20, 16))

  def test_folders_and_images_that_cannot_be(self):
    def refused(message):
      self.refused(message, encoding.encode, self.folder, self.file)

    refused("--input is .*images; it must be a folder")
    self.folder.mkdir()
    (self.folder / ".hidden.png").write_bytes(b"")
    (self.folder / "notes.txt").write_text("no image")
    refused("has no image: no file that ends in one of .bmp, .gif")
    image = self.folder / "a.png"
    image.write_bytes(b"no image")
    refused(
      r"images cannot be .* a.png \(does not decode, of no known format\)"
    )
    Image.new("1", (5000, 5000)).save(image)
    refused("a.png .does not decode, 5000 x 5000 pixels are more than 16777216")
    Image.new("RGB", (16, 16)).save(image)
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    refused("a.png .does not decode")
    image.write_bytes(content)
    Image.new("RGB", (16, 16)).save(self.folder / "a.bmp")
    refused(r"a.png \(cannot be decoded beside a.bmp; rename one of them\)")
    os.rename(self.folder / "a.bmp", self.folder / "b\nc.bmp")
    refused(r"'b\\nc.bmp' \(has a name that is no name of a file; rename it\)")

  def make_bad_images(self):
    conversion.make_images(
      self.folder, [(16, 16)] * 9 + [(20, 16)] * 3 + [(18, 16)]
    )
    (self.folder / "a.png").write_text("no image")
    (self.folder / "link").symlink_to("nowhere")
    for name in ("3.png", "7.png"):
      path = self.folder / name
      path.write_bytes(path.read_bytes()[:-100])

  def test_all_bad_files_are_named_at_once(self):
    self.make_bad_images()
    with mock.patch.object(encoding, "load_state", side_effect=AssertionError):
      self.refused(
        r"5 files .* 12.png \(16 x 18 .* 3.png \(.* 7.png \(does not decode, .*"
        r" a.png \(.* link \(.*; put .*, or leave them out with --skip_bad",
        encoding.encode,
        self.folder,
        self.file,
      )

  def test_files_that_turn_out_to_be_bad_are_named_at_once_too(self):
    self.make_bad_images()
    for name in ("a.png", "link", "12.png"):
      (self.folder / name).unlink()
    with mock.patch.object(folders, "BATCH_PIXELS", 16 * 16):
      self.refused(
        r"2 files .* 3.png \(does not decode, .* 7.png \(does not .*--skip_bad",
        encoding.encode,
        self.folder,
        self.file,
      )

  def test_bad_files_are_left_out(self):
    self.make_bad_images()
    with mock.patch.object(folders, "BATCH_PIXELS", 3 * 16 * 16):
      said = self.said(
        encoding.encode, self.folder, self.file, skip_bad=True
      ).splitlines()
    self.assertLen(said, 6)
    for line, name in zip(
      said[:5], ("12.png", "a.png", "link", "3.png", "7.png"), strict=True
    ):
      self.assertStartsWith(line, f"Leaving out {name} (")
    self.assertIn("x.tokens: 10 images, 5 files left out, 172 pos", said[5])
    self.assertEqual(token_file.Reader(self.file).header.num_images, 10)
    self.said(decoding.decode, self.file, self.output)
    self.assertLen(list(self.output.rglob("*.png")), 10)
    with self.subTest("the file is that of a folder without them"):
      first = self.file.read_bytes()
      for name in ("a.png", "link", "12.png", "3.png", "7.png"):
        (self.folder / name).unlink()
      self.file.unlink()
      with mock.patch.object(folders, "BATCH_PIXELS", 2**20):
        self.said(encoding.encode, self.folder, self.file, skip_bad=True)
      self.assertEqual(token_file.Reader(self.file).header.num_images, 10)
      self.assertLess(self.file.stat().st_size, len(first))

  def test_nothing_is_left_when_bad_files_are_left_out(self):
    conversion.make_images(self.folder, ((16, 16), (16, 16)))
    for path in self.folder.rglob("*.*"):
      path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):
      with self.assertRaisesRegex(UserError, "2 files .* take them away$"):
        self.said(encoding.encode, self.folder, self.file, skip_bad=True)
      self.assertFalse(self.file.exists())
      for path in self.folder.rglob("*.*"):
        path.write_bytes(b"")

  def test_no_model_with_a_price(self):
    with mock.patch.object(folders, "Batches", side_effect=AssertionError):
      self.refused(
        "--psnr is for a model with a price of bits, .*; leave it out",
        encoding.encode,
        self.folder,
        self.file,
        target=Target(PSNR, 20),
      )

  def test_names_that_no_terminal_shows(self):
    conversion.make_images(self.folder)
    (self.folder / "caf\udce9.png").touch()
    self.file = self.root / "caf\udce9"
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # strict
    with contextlib.redirect_stdout(output):
      encoding.encode(
        self.config, self.run_dir, self.folder, self.file, skip_bad=True
      )
    output.seek(0)
    self.assertIn("Leaving out 'caf\\udce9.png' (has a name", output.read())


class PricedChoiceTest(conversion.Case):
  """A pool, which has no frequencies by price."""

  def test_a_price_and_no_target(self):
    self.config = untrained.make_run(
      self.run_dir, untrained.POOL | {"quantizer.choice": "distortion"}
    )
    conversion.make_images(self.folder)
    self.refused(
      "--bits_per_pixel needs the frequencies of codes at several prices, .*;"
      " give --rate_weight",
      encoding.encode,
      self.folder,
      self.file,
      target=Target(BITS, 1),
    )
    price = Target(PRICE, 1e3)
    said = self.said(encoding.encode, self.folder, self.file, target=price)
    self.assertIn("3 images, at price 1e+03, 48 positions", said)
    # Of the structures of 16 and 64 codewords it takes only the cheaper.
    self.assertIn("(nominal rate 4.", said)
    self.said(decoding.decode, self.file, self.output)
    self.assertLen(list(self.output.rglob("*.png")), 3)
