"""Images to token files and back."""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import shutil
import signal
import tempfile
from unittest import mock

from absl.testing import parameterized
import jax
import numpy as np
from PIL import Image
import pytest

from adq_jax import Stream
from adq_jax import streams as streams_lib
from experiments.data import augment
from experiments.errors import UserError
from experiments.processes import signals
from experiments.runs import checkpoints
from experiments.tokens import convert
from experiments.tokens import image_folder as folders
from experiments.tokens import token_file
from tests.support import conversion
from tests.support import untrained


class RoundTripTest(conversion.Case):
  def test_one_codebook_and_two_sizes_of_images(self):
    # Ten indices below 100 would go into 64 bits.
    self.check(
      untrained.ONE, ((16, 16), (16, 16), (24, 20), (16, 16)), excess=1 / 9
    )

  def test_a_pool(self):
    self.check(untrained.POOL)

  @pytest.mark.slow
  def test_grey_images_where_decoding_takes_the_neighbours_choices(self):
    self.check(
      {**untrained.POOL, "quantizer.output_kernel": 3, "data.channels": 1}
    )

  @pytest.mark.slow
  def test_choices_by_channels_as_in_the_authors_code(self):
    self.check({**untrained.POOL, "quantizer.selection_unit": "channels"})

  def check(self, fields, sides=conversion.SIDES, excess=0.0):
    """Encodes and decodes, and compares with the forward pass.

    Args:
      fields: of the config.
      sides: of the images.
      excess: bits of an index beyond its nominal rate.
    """
    self.config = untrained.make_run(self.run_dir, fields)
    conversion.make_images(self.folder, sides)
    told = self.said(convert.encode, self.folder, self.file)
    said = self.said(convert.decode, self.file, self.output)
    self.assertEqual(said, f"{self.output}: {len(sides)} images\n")
    decoded = [path for path in self.output.rglob("*") if path.is_file()]
    self.assertLen(decoded, len(sides))
    model, variables = checkpoints.load_model(self.run_dir)
    channels = self.config.data.channels

    @jax.jit
    def forward(images):
      result = model.apply(variables, augment.to_float(images))
      sent = streams_lib.sent_streams(model, result.quantized.codes)
      return augment.to_uint8(result.images), sent

    def read(path):
      with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
      return pixels.reshape(*pixels.shape[:2], channels).astype(np.int32)

    chunks = list(token_file.Reader(self.file))
    names = [name for chunk in chunks for name in chunk.names]
    self.assertEqual(names[:3], ["0.png", *sorted(names[1:3])])
    streams = model.streams
    bits, counts = 0, [np.zeros(stream.alphabet) for stream in streams]
    for chunk in chunks:
      images = np.stack([read(self.folder / name) for name in chunk.names])
      expected, sent = jax.tree.map(
        np.asarray, forward(images.astype(np.uint8))
      )
      for found, value, is_sent, own in zip(
        chunk.codes, *sent, counts, strict=True
      ):
        np.testing.assert_array_equal(found, value[is_sent])
        own += np.bincount(found, minlength=len(own))
      for name, image in zip(chunk.names, expected, strict=True):
        found = read(self.output / name.replace(".bmp", ".png"))
        np.testing.assert_allclose(found, image.astype(np.int32), atol=1)
    positions = sum(h * w // 16 for h, w in sides)
    for stream, own in zip(streams, counts, strict=True):
      if stream.coding == "fixed":
        bits += own.sum() * np.log2(stream.alphabet)
      else:
        bits -= sum(n * np.log2(n / own.sum()) for n in own if n)
    pattern = r"positions, ([\d.]+) bits.*rate ([\d.]+)\), (\d+) bytes"
    taken, rate, size = map(float, re.search(pattern, told).groups())
    self.assertAlmostEqual(rate, bits / positions, delta=2e-3)
    # What is stated in `tokens`, where every chunk has sizes of its own.
    beyond = 21 if len(streams) == 1 else 28 + 7 * len(streams) + 0.1
    beyond = 8 * beyond * len(chunks) + excess * positions
    self.assertBetween((taken - rate) * positions, -1, beyond)
    self.assertEqual(size, self.file.stat().st_size)
    self.assertLess(size, taken * positions / 8 + 1000)


class RefusedTest(conversion.Case):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.made = pathlib.Path(directory.name) / "run"
    cls.config = untrained.make_run(cls.made, untrained.ONE)

  def setUp(self):
    super().setUp()
    shutil.copytree(self.made, self.run_dir)

  def test_sides_that_are_no_multiples(self):
    conversion.make_images(self.folder, ((16, 16), (18, 16), (16, 23)))
    self.refused(
      r"2 files of .* 2.png \(23 x 16 pixels, sides that are no multiples of"
      r" 4\), below/x.bmp \(16 x 18 .*; put .* multiples of 4 with --crop",
      convert.encode,
      self.folder,
      self.file,
    )
    self.said(convert.encode, self.folder, self.file, crop=True)
    self.said(convert.decode, self.file, self.output)
    with Image.open(self.output / "below" / "x.png") as image:
      self.assertEqual(image.size, (16, 16))
    with Image.open(self.output / "2.png") as image:
      self.assertEqual(image.size, (20, 16))

  def test_folders_and_images_that_cannot_be(self):
    def refused(message):
      self.refused(message, convert.encode, self.folder, self.file)

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
    with mock.patch.object(convert, "load_state", side_effect=AssertionError):
      self.refused(
        r"5 files .* 12.png \(16 x 18 .* 3.png \(.* 7.png \(does not decode, .*"
        r" a.png \(.* link \(.*; put .*, or leave them out with --skip_bad",
        convert.encode,
        self.folder,
        self.file,
      )

  def test_files_that_turn_out_to_be_bad_are_named_at_once_too(self):
    self.make_bad_images()
    for name in ("a.png", "link", "12.png"):
      (self.folder / name).unlink()
    with mock.patch.object(folders, "_BATCH_PIXELS", 16 * 16):
      self.refused(
        r"2 files .* 3.png \(does not decode, .* 7.png \(does not .*--skip_bad",
        convert.encode,
        self.folder,
        self.file,
      )

  def test_bad_files_are_left_out(self):
    self.make_bad_images()
    with mock.patch.object(folders, "_BATCH_PIXELS", 3 * 16 * 16):
      said = self.said(
        convert.encode, self.folder, self.file, skip_bad=True
      ).splitlines()
    self.assertLen(said, 6)
    for line, name in zip(
      said[:5], ("12.png", "a.png", "link", "3.png", "7.png"), strict=True
    ):
      self.assertStartsWith(line, f"Leaving out {name} (")
    self.assertIn("x.tokens: 10 images, 5 files left out, 172 pos", said[5])
    self.assertEqual(token_file.Reader(self.file).header.num_images, 10)
    self.said(convert.decode, self.file, self.output)
    self.assertLen(list(self.output.rglob("*.png")), 10)
    with self.subTest("the file is that of a folder without them"):
      first = self.file.read_bytes()
      for name in ("a.png", "link", "12.png", "3.png", "7.png"):
        (self.folder / name).unlink()
      self.file.unlink()
      with mock.patch.object(folders, "_BATCH_PIXELS", 2**20):
        self.said(convert.encode, self.folder, self.file, skip_bad=True)
      self.assertEqual(token_file.Reader(self.file).header.num_images, 10)
      self.assertLess(self.file.stat().st_size, len(first))

  def test_nothing_is_left_when_bad_files_are_left_out(self):
    conversion.make_images(self.folder, ((16, 16), (16, 16)))
    for path in self.folder.rglob("*.*"):
      path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):
      with self.assertRaisesRegex(UserError, "2 files .* take them away$"):
        self.said(convert.encode, self.folder, self.file, skip_bad=True)
      self.assertFalse(self.file.exists())
      for path in self.folder.rglob("*.*"):
        path.write_bytes(b"")

  def test_nothing_is_overwritten(self):
    conversion.make_images(self.folder)
    self.file.write_text("mine")
    self.refused(
      "x.tokens exists already", convert.encode, self.folder, self.file
    )
    self.assertEqual(self.file.read_text(), "mine")
    self.file.unlink()
    self.said(convert.encode, self.folder, self.file)
    self.output.mkdir()
    self.refused("exists already", convert.decode, self.file, self.output)

  @parameterized.parameters("encode", "decode")
  def test_a_place_that_cannot_be_written(self, mode):
    conversion.make_images(self.folder)
    self.said(convert.encode, self.folder, self.file)
    source = self.folder if mode == "encode" else self.file
    denied = PermissionError(13, "Permission denied")
    self.enter_context(
      mock.patch.object(convert, "load_state", side_effect=AssertionError)
    )

    def refused(message, output):
      self.refused(message, getattr(convert, mode), source, output)

    other_place = "name another place with --output"
    refused(
      f"nowhere/x cannot be written .*nowhere is no directory.*{other_place}",
      self.root / "nowhere" / "x",
    )
    refused(
      f"x.tokens/y cannot be written .*x.tokens is no directory.*{other_place}",
      self.file / "y",
    )
    for name in ("x" * 256, "ü" * 128, "x/" * 3000 + "x"):
      refused(
        f"cannot be written .File name too l.*{other_place}", self.root / name
      )
    (self.root / "gone").symlink_to("nowhere")
    refused("gone exists already; name another", self.root / "gone")
    with mock.patch.object(tempfile, "mkdtemp", side_effect=denied):
      refused(
        f"x cannot be written .Permission.*{other_place}", self.root / "x"
      )

  def test_not_among_the_images(self):
    conversion.make_images(self.folder)
    (self.root / "link").symlink_to(self.folder / "below")
    for place in (self.folder, self.folder / "below", self.root / "link"):
      self.refused(
        "is in .*images, the folder of the images; name a place elsewhere",
        convert.encode,
        self.folder,
        place / "x.tokens",
      )

  def test_names_as_long_as_names_may_be(self):
    conversion.make_images(self.folder)
    for name in ("x" * 255, "ü" * 127):
      self.file, self.output = self.root / name, self.root / f"y{name[1:]}"
      self.said(convert.encode, self.folder, self.file)
      self.said(convert.decode, self.file, self.output)
      self.assertLen(list(self.output.rglob("*.png")), 3)
    self.assertLen(list(self.root.iterdir()), 6)

  def test_what_is_there_is_in_nobodys_way(self):
    conversion.make_images(self.folder)
    mine = self.root / f"x.tokens.{os.getpid()}.tmp"
    mine.write_text("mine")
    self.said(convert.encode, self.folder, self.file)
    self.assertEqual(mine.read_text(), "mine")

  def test_names_that_no_terminal_shows(self):
    conversion.make_images(self.folder)
    (self.folder / "caf\udce9.png").touch()
    self.file = self.root / "caf\udce9"
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # strict
    with contextlib.redirect_stdout(output):
      convert.encode(
        self.config, self.run_dir, self.folder, self.file, skip_bad=True
      )
    output.seek(0)
    self.assertIn("Leaving out 'caf\\udce9.png' (has a name", output.read())

  def test_killed_in_between_it_leaves_no_file(self):
    conversion.make_images(self.folder)
    with mock.patch.object(
      token_file.Writer, "finish", side_effect=KeyboardInterrupt
    ):
      with self.assertRaises(KeyboardInterrupt):
        self.said(convert.encode, self.folder, self.file)
    self.assertCountEqual(self.root.iterdir(), [self.folder, self.run_dir])

  @parameterized.product(
    number=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    mode=["encode", "decode"],
  )
  def test_a_signal_leaves_nothing_behind(self, number, mode):
    self.config = untrained.make_run(self.run_dir, untrained.ONE)
    conversion.make_images(self.folder)
    arguments = (self.folder, self.file)
    if mode == "decode":
      self.said(convert.encode, *arguments)
      arguments = (self.file, self.output)
    before = sorted(self.root.rglob("*"))
    mapped = convert._Mapped.__call__

    def ask(*batch):
      self.assertNotEqual(sorted(self.root.rglob("*")), before)
      os.kill(os.getpid(), number)
      return mapped(*batch)

    with (
      mock.patch.object(convert._Mapped, "__call__", ask),
      self.assertRaises(signals.Interrupt) as raised,
      signals.interrupting(),
    ):
      self.said(getattr(convert, mode), *arguments)
    self.assertEqual(raised.exception.name, number.name)
    self.assertEqual(sorted(self.root.rglob("*")), before)

  def test_a_file_of_another_model(self):
    conversion.make_images(self.folder)
    self.said(convert.encode, self.folder, self.file)
    first = self.run_dir
    self.run_dir = self.root / "other"
    self.config = untrained.make_run(self.run_dir, {**untrained.ONE, "seed": 1})
    self.refused(
      "x.tokens is of another model, 'photo_patches' 'adaptive' at step 0,"
      r" than .*other holds \(checkpoints of steps \[0\]\); name its run",
      convert.decode,
      self.file,
      self.output,
    )
    with self.subTest("one that was trained further has its checkpoint"):
      self.run_dir = first
      self.config = untrained.make_run(first, untrained.ONE, step=9)
      self.said(convert.decode, self.file, self.output)

  def test_a_damaged_file_leaves_no_folder(self):
    conversion.make_images(self.folder)
    self.said(convert.encode, self.folder, self.file)
    content = bytearray(self.file.read_bytes())
    content[-100] ^= 1
    self.file.write_bytes(content)
    self.refused("is damaged, its SHA", convert.decode, self.file, self.output)

  def test_a_file_that_somebody_made_for_this_model(self):
    conversion.make_images(self.folder)
    self.said(convert.encode, self.folder, self.file)
    reader = token_file.Reader(self.file)
    (chunk,) = reader
    cut = dataclasses.replace(chunk, codes=(chunk.codes[0][:-1],))
    for header, written, message in (
      (reader.header, cut, "index has another number of codes"),
      (
        dataclasses.replace(reader.header, streams=(Stream("index", 101),)),
        chunk,
        "its header is not that of its model",
      ),
      (
        reader.header,
        dataclasses.replace(chunk, names=("a.png", "a.jpg", "b.png")),
        "decoded cannot be written .*File exists",
      ),
    ):
      with open(self.file, "wb") as file:
        writer = token_file.Writer(file, header)
        writer.write(written)
        writer.finish()
      self.refused(message, convert.decode, self.file, self.output)

  def test_several_processes(self):
    with mock.patch.object(jax, "process_count", return_value=2):
      self.refused("for one process", convert.encode, self.folder, self.file)
