import dataclasses
import re

import jax
import numpy as np
from PIL import Image
import pytest

from adq_jax import Stream
from adq_jax import streams as streams_lib
from experiments.data import augment
from experiments.runs import checkpoints
from experiments.tokens import decoding
from experiments.tokens import encoding
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
    pattern = r"positions, ([\d.]+) bits.*rate ([\d.]+)\), (\d+) bytes"
    taken, rate, size = map(float, re.search(pattern, told).groups())
    self.assertAlmostEqual(rate, bits / positions, delta=2e-3)
    # What is stated in `token_file`, where every chunk has sizes of its own.
    beyond = 21 if len(streams) == 1 else 28 + 7 * len(streams) + 0.1
    beyond = 8 * beyond * len(chunks) + excess * positions
    self.assertBetween((taken - rate) * positions, -1, beyond)
    self.assertEqual(size, self.file.stat().st_size)
    self.assertLess(size, taken * positions / 8 + 1000)


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
