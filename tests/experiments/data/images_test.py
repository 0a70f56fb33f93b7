import io
import pathlib
import struct

from absl.testing import parameterized
import numpy as np
from PIL import Image
from PIL import ImageCms
from PIL import ImageOps
from PIL import PngImagePlugin

from experiments.data import images

SIZE = (16, 12)  # width and height
RED = (250, 20, 10)


def to_file(image, form, **options):
  file = io.BytesIO()
  image.save(file, format=form, **options)
  return file.getvalue()


def shown(content):
  """What arrives after storing and reading."""
  return images.decode(images.checked_file(content, "x", SIZE), channels=3)


class ColoursTest(parameterized.TestCase):
  """A red picture must be red, however it is stored."""

  @parameterized.named_parameters(
    ("rgb_png", "RGB", "PNG"),
    ("rgb_jpeg", "RGB", "JPEG"),
    ("cmyk_jpeg", "CMYK", "JPEG"),
    ("palette_png", "P", "PNG"),
    ("palette_gif", "P", "GIF"),
    ("rgba_png", "RGBA", "PNG"),
  )
  def test_red_stays_red(self, mode, form):
    image = Image.new("RGB", SIZE, RED)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    pixels = shown(to_file(image, form))
    self.assertEqual(pixels.shape, (12, 16, 3))
    np.testing.assert_allclose(
      pixels, np.broadcast_to(RED, pixels.shape), atol=6
    )

  def test_grey_of_8_and_16_bits_and_of_1(self):
    levels = np.linspace(0, 255, 12 * 16).astype(np.uint8).reshape(12, 16)
    for array in (levels, levels.astype(np.uint16) * 257):
      pixels = shown(to_file(Image.fromarray(array), "PNG"))
      np.testing.assert_array_equal(pixels, np.stack([levels] * 3, axis=-1))
    bits = Image.fromarray((levels > 99).astype(np.uint8) * 255).convert("1")
    np.testing.assert_array_equal(
      shown(to_file(bits, "PNG"))[..., 0], np.where(levels > 99, 255, 0)
    )

  def test_what_is_transparent_shows_the_paper(self):
    rgba = np.zeros((12, 16, 4), np.uint8)
    rgba[..., 0] = 200  # hidden red
    rgba[:6, :, 3] = 255
    pixels = shown(to_file(Image.fromarray(rgba), "PNG"))
    self.assertEqual(pixels[0, 0].tolist(), [200, 0, 0])
    self.assertEqual(pixels[-1, 0].tolist(), [255, 255, 255])
    palette = Image.new("P", SIZE, 1)
    palette.putpalette([0, 0, 0, *RED])
    content = to_file(palette, "PNG", transparency=1)
    self.assertEqual(shown(content)[0, 0].tolist(), [255, 255, 255])

  def test_a_picture_taken_upright(self):
    array = np.zeros((16, 12, 3), np.uint8)
    array[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    content = to_file(Image.fromarray(array), "PNG", exif=exif)
    pixels = shown(content)
    self.assertEqual(pixels[0, 0].tolist(), [0, 0, 0])
    self.assertEqual(pixels[0, -1].tolist(), [255, 255, 255])

  def test_an_rgb_file_is_stored_as_it_is(self):
    for form in ("PNG", "JPEG"):
      content = to_file(Image.new("RGB", SIZE, RED), form)
      self.assertIs(images.checked_file(content, "x", SIZE), content)


def exif(orientation):
  result = Image.Exif()
  result[0x0112] = orientation
  return result


class OrientationTest(parameterized.TestCase):
  """A picture is shown upright, and its size is known without its pixels."""

  def shown_of(self, content):
    path = pathlib.Path(self.create_tempdir()) / "x"
    path.write_bytes(content)
    pixels = images.read(path, 3)
    self.assertEqual(images.shown_size(path), pixels.shape[:2])
    return pixels

  @parameterized.product(
    form=("JPEG", "TIFF", "PNG", "WEBP"),
    orientation=tuple(range(10)),
    size=((16, 12), (5, 9), (8, 8)),
  )
  def test_as_pil_turns_it(self, form, orientation, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3))
    image = Image.fromarray(noise.astype(np.uint8))
    content = to_file(image, form, exif=exif(orientation))
    with Image.open(io.BytesIO(content)) as image:
      expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(self.shown_of(content), expected)
    if form in ("PNG", "TIFF"):  # what is stored with TFDS, too
      size = expected.shape[1::-1]
      stored = images.checked_file(content, "x", size)
      np.testing.assert_array_equal(images.decode(stored, 3), expected)

  @parameterized.parameters("I;16", "L", "F", "1")
  def test_a_tiff_of_grey_levels(self, mode):
    levels = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    turned = np.array([[153, 0], [204, 51], [255, 102]])
    image = Image.fromarray(levels)
    if mode == "I;16":
      image = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "F":
      image = Image.fromarray(levels.astype(np.float32) / 255)
    elif mode == "1":
      image = Image.fromarray(levels > 99)
      turned = np.where(turned > 99, 255, 0)
    pixels = self.shown_of(to_file(image, "TIFF", exif=exif(6)))
    np.testing.assert_array_equal(pixels[..., 1], turned)

  def test_a_description_that_is_damaged_spoils_no_picture(self):
    image = Image.new("RGB", SIZE, RED)
    for bad in (b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 99):
      content = to_file(image, "JPEG", exif=bad)
      self.assertEqual(self.shown_of(content).shape, (12, 16, 3))

  @parameterized.parameters("JPEG", "PNG", "TIFF", "WEBP")
  def test_an_orientation_that_only_xmp_has(self, form):
    xmp = b'<x tiff:Orientation="6"/>'
    image = Image.new("RGB", SIZE, RED)
    options = {"tiffinfo": {700: xmp}} if form == "TIFF" else {"xmp": xmp}
    if form == "PNG":
      text = PngImagePlugin.PngInfo()
      text.add_itxt("XML:com.adobe.xmp", xmp.decode())
      options = {"pnginfo": text}
    shape = self.shown_of(to_file(image, form, **options)).shape
    # A TIFF has a tag for it, and viewers look nowhere else.
    self.assertEqual(shape, (12, 16, 3) if form == "TIFF" else (16, 12, 3))


def tiff(values, photometric=1, form=1, bits=None, order="<"):
  """An uncompressed TIFF of one sample per pixel, as the standard has it."""
  values = np.asarray(values)
  height, width = values.shape
  bits = bits or 8 * values.itemsize
  data = values.astype(values.dtype.newbyteorder(order)).tobytes()
  tags = [
    (256, width), (257, height), (258, bits), (259, 1), (262, photometric),
    (273, 8), (277, 1), (278, height), (279, len(data)), (339, form),
  ]  # fmt: skip
  entry = {"<": "<HHIHH", ">": ">HHIHH"}[order]
  directory = struct.pack(f"{order}H", len(tags))
  for tag, value in tags:
    directory += struct.pack(entry, tag, 3, 1, value, 0)
  start = {"<": b"II", ">": b"MM"}[order] + struct.pack(
    f"{order}HI", 42, 8 + len(data)
  )
  return start + data + directory + bytes(4)


class LevelsTest(parameterized.TestCase):
  """Grey levels of all depths, by hand."""

  def levels(self, content):
    with Image.open(io.BytesIO(content)) as image:
      size = image.size
    pixels = images.decode(images.checked_file(content, "x", size), 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0].tolist()

  @parameterized.parameters("<", ">")
  def test_floating_point(self, order):
    values = np.array([[0, 0.2, 0.5, 1]], np.float32)
    content = tiff(values, form=3, order=order)
    self.assertEqual(self.levels(content), [[0, 51, 128, 255]])
    content = tiff(values, photometric=0, form=3, order=order)
    self.assertEqual(self.levels(content), [[255, 204, 127, 0]])

  @parameterized.parameters(
    ((0, 255), "from 0 to 255"),
    ((-1, 1), "from -1 to 1"),
    ((0, np.nan), "from nan to nan"),
    ((0, np.inf), "from 0 to inf"),
  )
  def test_floating_point_without_a_known_white(self, values, message):
    content = tiff(np.array([values], np.float32), form=3)
    with self.assertRaisesRegex(ValueError, f"image x does not .* {message};"):
      self.levels(content)

  def test_16_bits(self):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    self.assertEqual(self.levels(tiff(values)), [[0, 0, 1, 128, 255]])
    self.assertEqual(
      self.levels(tiff(values, order=">")), [[0, 0, 1, 128, 255]]
    )
    white_is_zero = self.levels(tiff(values, photometric=0))
    self.assertEqual(white_is_zero, [[255, 255, 254, 127, 0]])

  def test_12_bits(self):
    # 0x000, 0x010, 0x7ff, 0xfff
    packed = np.array([[0x00, 0x00, 0x10, 0x7F, 0xFF, 0xFF]], np.uint8)
    content = tiff(packed, bits=12)
    width = struct.pack("<HHIHH", 256, 3, 1, 6, 0)
    content = content.replace(width, struct.pack("<HHIHH", 256, 3, 1, 4, 0))
    self.assertEqual(self.levels(content), [[0, 1, 127, 255]])

  def test_8_bits_and_1_where_white_is_zero(self):
    values = np.array([[0, 1, 255]], np.uint8)
    self.assertEqual(self.levels(tiff(values, photometric=0)), [[255, 254, 0]])
    bits = np.array([[0b01000000]], np.uint8)
    content = tiff(bits, photometric=0, bits=1)
    self.assertEqual(self.levels(content), [[255]])
    content = tiff(bits | 128, photometric=0, bits=1)
    self.assertEqual(self.levels(content), [[0]])

  @parameterized.parameters(
    (np.int8, 2), (np.int16, 2), (np.int32, 2), (np.uint32, 1)
  )
  def test_nothing_says_what_is_white(self, dtype, form):
    content = tiff(np.array([[0, 1, 100]], dtype), form=form)
    with self.assertRaisesRegex(ValueError, "signed or have 32 bits"):
      self.levels(content)

  def test_a_transparent_level_of_16_bits(self):
    values = np.array([[0, 256, 65535]], np.uint16)
    content = to_file(Image.fromarray(values), "PNG", transparency=256)
    self.assertEqual(self.levels(content), [[0, 255, 255]])

  def test_grey_with_alpha(self):
    image = Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA")
    for form in ("PNG", "TIFF", "WEBP"):
      options = {"lossless": True} if form == "WEBP" else {}
      content = to_file(image, form, **options)
      self.assertEqual(self.levels(content), [[100, 255]])

  def test_grey_multiplied_by_alpha(self):
    # 50 on black is half transparent 100, on white 50 + 127.
    image = Image.frombytes("La", (1, 1), bytes([50, 128]))
    self.assertEqual(np.asarray(images.to_rgb(image)).tolist(), [[[177] * 3]])

  @parameterized.parameters("GIF", "TIFF")
  def test_the_first_of_several_pictures(self, form):
    pictures = [Image.new("L", (3, 2), level) for level in (7, 200, 90)]
    content = to_file(
      pictures[0], form, save_all=True, append_images=pictures[1:]
    )
    self.assertEqual(self.levels(content), [[7] * 3] * 2)

  def test_colours_of_lab(self):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(
      Image.new("RGB", SIZE, RED), srgb, lab, outputMode="LAB"
    )
    pixels = shown(to_file(image, "TIFF"))
    np.testing.assert_allclose(
      pixels, np.broadcast_to(RED, pixels.shape), atol=8
    )


class BadFilesTest(parameterized.TestCase):
  @parameterized.parameters("PNG", "JPEG")
  def test_damaged(self, form):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    content = to_file(Image.fromarray(noise.astype(np.uint8)), form)
    for bad in (b"", b"no image", content[:-60], content[:20]):
      with self.assertRaisesRegex(
        ValueError, "image a/b.png does not decode, .*"
      ) as error:
        images.checked_file(bad, "a/b.png", SIZE)
      self.assertNotIn(" at 0x", str(error.exception))

  def test_another_size(self):
    content = to_file(Image.new("RGB", (16, 13)), "PNG")
    with self.assertRaisesRegex(
      ValueError, "image x is 16 x 13 pixels; it must be 16 x 12"
    ):
      images.checked_file(content, "x", SIZE)


class DecodeTest(parameterized.TestCase):
  def test_the_centred_square_is_resized(self):
    array = np.zeros((12, 16, 3), np.uint8)
    array[:, 2:14] = 255  # the square, and only it
    content = to_file(Image.fromarray(array), "PNG")
    pixels = images.decode(content, 3, resize_to=6)
    self.assertEqual(pixels.shape, (6, 6, 3))
    # Lanczos looks a little over the edge.
    self.assertGreater(pixels[:, 1:-1].min(), 250)
    self.assertGreater(pixels.min(), 230)

  def test_grey(self):
    levels = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    content = to_file(Image.fromarray(levels), "PNG")
    np.testing.assert_array_equal(images.decode(content, 1)[..., 0], levels)
