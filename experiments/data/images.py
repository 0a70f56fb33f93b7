"""Image files to arrays, in the colours that a viewer shows."""

from collections.abc import Iterator
import contextlib
import io
import pathlib
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from experiments.limits import MAX_PIXELS

# Of those that PIL knows, some start other programs, such as PostScript's.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_AS_IT_IS = {("JPEG", "RGB"), ("PNG", "RGB")}
_ORIENTATION = 0x0112  # in EXIF


def to_rgb(image: Image.Image) -> Image.Image:
  """Returns what a viewer shows, as RGB, on white where it is transparent."""
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I"):  # 16 bits, which PIL would clip to 8
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image)
  return image.convert("RGB")


def checked_file(content: bytes, name: str, size: tuple[int, int]) -> bytes:
  """Returns an image file that decodes to RGB, for TFDS to store.

  It is the file itself where that is an RGB JPEG or PNG already, else a PNG of
  what a viewer shows.

  Args:
    content: of the image file.
    name: for error messages.
    size: width and height that it must have.

  Raises:
    ValueError: if it does not decode, or is of another size.
  """
  with _decoding(io.BytesIO(content), name) as image:
    image.load()
    is_ready = (image.format, image.mode) in _AS_IT_IS and not (
      image.has_transparency_data or _ORIENTATION in image.getexif()
    )
    shown = image if is_ready else to_rgb(image)
  if shown.size != size:
    raise ValueError(
      f"image {name} is {shown.width} x {shown.height} pixels; it must be"
      f" {size[0]} x {size[1]}"
    )
  return content if is_ready else to_png(shown)


def shown_size(path: pathlib.Path) -> tuple[int, int]:
  """Returns height and width of what a viewer shows of an image file.

  Raises:
    ValueError: if it is no image, or has more than `MAX_PIXELS`.
  """
  with _decoding(path, str(path)) as image:
    is_turned = image.getexif().get(_ORIENTATION, 1) > 4
    return image.size if is_turned else image.size[::-1]


def read(path: pathlib.Path, channels: int) -> np.ndarray:
  """Returns what a viewer shows of an image file, uint8 `[H, W, channels]`.

  Raises:
    ValueError: as `shown_size`.
  """
  with _decoding(path, str(path)) as image:
    return _to_array(to_rgb(image), channels)


def to_png(image: Image.Image) -> bytes:
  """Returns the image as a PNG file."""
  png = io.BytesIO()
  image.save(png, format="PNG")
  return png.getvalue()


def decode(content: bytes, channels: int, resize_to: int = 0) -> np.ndarray:
  """Returns the pixels of a file that TFDS stored, uint8 `[H, W, channels]`.

  Args:
    content: of the image file.
    channels: 3 for RGB, 1 for grey.
    resize_to: height and width to which the largest centred square is resized
      (Lanczos); 0 keeps the image as it is.
  """
  with _decoding(io.BytesIO(content)) as image:
    image = image.convert("RGB" if channels == 3 else "L")
    if resize_to and image.size != (resize_to, resize_to):
      image = ImageOps.fit(image, (resize_to, resize_to), Image.LANCZOS)
    return _to_array(image, channels)


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
  image = image.convert("RGB" if channels == 3 else "L")
  return np.asarray(image).reshape(image.height, image.width, channels)


@contextlib.contextmanager
def _decoding(
  file: BinaryIO | pathlib.Path, name: str = "of the records"
) -> Iterator[Image.Image]:
  """Opens an image of bearable size; whatever is wrong is a ValueError."""
  try:
    with Image.open(file, formats=_FORMATS) as image:
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(
          f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}"
        )
      yield image
  except Exception as error:  # PIL's are of many kinds
    is_known = not isinstance(error, UnidentifiedImageError)
    reason = error if is_known else "of no known format"
    raise ValueError(f"image {name} does not decode, {reason}") from error
