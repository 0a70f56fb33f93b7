import io

from absl.testing import parameterized
import numpy as np
from PIL import Image

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
