import dataclasses
import re
import shutil

import jax
import numpy as np
from PIL import Image
import pytest

from adq_jax import Stream
from adq_jax import streams as streams_lib
from adq_jax.streams import symbols
from experiments.data import augment
from experiments.runs import checkpoints
from experiments.runs import frequencies
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens import token_file
from tests.support import conversion
from tests.support import untrained


class RoundTripTest(conversion.Case):
  def test_one_codebook_and_two_sizes_of_images(self):
    self.check(untrained.ONE, ((16, 16), (16, 16), (24, 20), (16, 16)))

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

  def check(self, fields, sides=conversion.SIDES):
    """Encodes and decodes, and compares with the forward pass.

    Args:
      fields: of the config.
      sides: of the images.
    """
    self.config = untrained.make_run(self.run_dir, fields)
    conversion.make_images(self.folder, sides)
    told = self.said(encoding.encode, self.folder, self.file)
    said = self.said(decoding.decode, self.file, self.output)
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
    pattern = (
      r"positions, ([\d.]+) bits/position \(nominal rate ([\d.]+)\),"
      r" ([\d.]+) bits/pixel, (\d+) bytes, (\d+) of them for names"
    )
    taken, rate, of_pixel, size, names = map(
      float, re.search(pattern, told).groups()
    )
    self.assertAlmostEqual(rate, bits / positions, delta=2e-3)
    self.assertEqual(size, self.file.stat().st_size)
    self.assertAlmostEqual(taken, 8 * size / positions, delta=1e-3)
    self.assertAlmostEqual(of_pixel, 8 * size / positions / 16, delta=1e-4)
    # A chunk has its own numbers, the file its header and hash.
    beyond = (24 + 8 * len(streams)) * len(chunks) + 600
    self.assertLess(size - names, bits / 8 + beyond)


class DecodeTest(conversion.UntrainedCase):
  def test_a_file_of_another_model(self):
    conversion.make_images(self.folder)
    self.said(encoding.encode, self.folder, self.file)
    first = self.run_dir
    self.run_dir = self.root / "other"
    self.config = untrained.make_run(self.run_dir, {**untrained.ONE, "seed": 1})
    self.refused(
      "x.tokens is of another model, 'photo_patches' 'adaptive' at step 0,"
      r" than .*other holds \(checkpoints of steps \[0\]\); name its run",
      decoding.decode,
      self.file,
      self.output,
    )
    with self.subTest("one that was trained further has its checkpoint"):
      self.run_dir = first
      self.config = untrained.make_run(first, untrained.ONE, step=9)
      self.said(decoding.decode, self.file, self.output)

  def test_a_file_that_is_coded_by_the_frequencies_of_its_run(self):
    conversion.make_images(self.folder)
    symbol = symbols([Stream("index", 100)])
    first, second = (
      frequencies.of_counts(symbol, [[np.full(100, n)]]) for n in (0, 1)
    )
    second.tables[0][0, 0] += 1
    second.tables[0][0, 1] -= 1
    frequencies.keep(self.run_dir, 0, first)
    told = self.said(encoding.encode, self.folder, self.file)
    self.assertRegex(told, r"\(nominal rate 6.644, coded rate 6.644\)")
    self.said(decoding.decode, self.file, self.output)
    self.assertLen(list(self.output.rglob("*.png")), 3)
    shutil.rmtree(self.output)
    path = frequencies.path_of(self.run_dir, 0)
    path.unlink()
    self.refused(
      "is coded by the frequencies of its model, which lack",
      decoding.decode,
      self.file,
      self.output,
    )
    frequencies.keep(self.run_dir, 0, second)
    self.refused(
      "is coded by other frequencies than these; .* of step 0",
      decoding.decode,
      self.file,
      self.output,
    )
    path.write_bytes(path.read_bytes()[:-50])
    for function, place in (
      (decoding.decode, (self.file, self.output)),
      (encoding.encode, (self.folder, self.root / "y.tokens")),
    ):
      self.refused("0.npz is damaged, or of another", function, *place)

  def test_a_damaged_file_leaves_no_folder(self):
    conversion.make_images(self.folder)
    self.said(encoding.encode, self.folder, self.file)
    content = bytearray(self.file.read_bytes())
    content[-100] ^= 1
    self.file.write_bytes(content)
    self.refused("is damaged, its SHA", decoding.decode, self.file, self.output)

  def test_a_file_that_somebody_made_for_this_model(self):
    conversion.make_images(self.folder)
    self.said(encoding.encode, self.folder, self.file)
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
      self.refused(message, decoding.decode, self.file, self.output)
