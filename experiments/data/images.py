"""Image files to arrays, in the colours that a viewer shows."""

from collections.abc import Iterator
import contextlib
import io
import pathlib
from typing import BinaryIO
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps
from PIL import TiffImagePlugin
from PIL import UnidentifiedImageError

from experiments.errors import one_line
from experiments.processes.limits import MAX_PIXELS

# Of those that PIL knows, some start other programs, such as PostScript's.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_AS_IT_IS = {("JPEG", "RGB"), ("PNG", "RGB")}
_ORIENTATION = ExifTags.Base.Orientation
# Other orientations, 0 and 9 among them, mean nothing, and viewers ignore them.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_SWAP_SIDES = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}
_UNSIGNED, _FLOATING_POINT = 1, 3  # sample formats of TIFF
_WHITE_IS_ZERO = 0  # a photometric interpretation of TIFF

# PIL warns of images far above our limit, which refuses them anyway.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class DecodingError(ValueError):
  """An image file that does not decode.

  Attributes:
    reason: why, without the name of the file.
  """

  def __init__(self, name: str, reason: str):
    self.reason = f"does not decode, {reason}"
    super().__init__(f"image {name} {self.reason}")


def to_rgb(image: Image.Image) -> Image.Image:
  """Returns what a viewer shows, as RGB, on white where it is transparent.

  Raises:
    ValueError: if the file does not say which of its values are black and
      white.
  """
  image.load()
  turn = _turn(image)
  image = _with_8_bits(image)
  if image.mode == "La":  # PIL converts it to nothing else
    image = image.convert("LA")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image)
  image = image.convert("RGB")
  return image if turn is None else image.transpose(turn)


def checked_file(content: bytes, name: str, size: tuple[int, int]) -> bytes:
  """Returns an image file that decodes to RGB, for TFDS to store.

  An RGB JPEG or PNG is returned as it is; any other file becomes a PNG of what
  a viewer shows.

  Args:
    content: the content of the image file.
    name: the name for error messages.
    size: the width and height that the image must have.

  Raises:
    ValueError: if it does not decode (`DecodingError`), or is of another size.
  """
  with _decoding(io.BytesIO(content), name) as image:
    image.load()
    is_ready = (image.format, image.mode) in _AS_IT_IS and not (
      image.has_transparency_data or _turn(image) is not None
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
    DecodingError: if it is no image, or has more than `MAX_PIXELS`.
  """
  with _decoding(path, str(path)) as image:
    width, height = image.size
    return (width, height) if _turn(image) in _SWAP_SIDES else (height, width)


def read(path: pathlib.Path, channels: int) -> np.ndarray:
  """Returns what a viewer shows of an image file, uint8 `[H, W, channels]`.

  Raises:
    DecodingError: as `shown_size`, or if its pixels are damaged, or if the file
      does not say which of its values are black and white.
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
    content: the content of the image file.
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


def _turn(image: Image.Image) -> Image.Transpose | None:
  """Returns how to turn an opened image; loading it does not change that."""
  if isinstance(image, TiffImagePlugin.TiffImageFile):
    return None  # PIL turns it as it loads it, and says its size accordingly
  try:
    return _TURNS.get(image.getexif().get(_ORIENTATION))
  except Exception:  # a damaged description spoils no picture
    return None


def _with_8_bits(image: Image.Image) -> Image.Image:
  """Scales grey levels to 8 bits, where PIL's `convert` would clip them."""
  tags = getattr(image, "tag_v2", {})
  forms = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (_UNSIGNED,)))
  if image.mode == "F":
    levels = _from_unit_range(np.asarray(image))
  elif image.mode == "I" or not forms <= {_UNSIGNED, _FLOATING_POINT}:
    raise ValueError(
      "its samples are signed or have 32 bits, and nothing says which of them"
      " are black and white; save it with 8 or 16 unsigned bits"
    )
  elif image.mode.startswith("I;16"):
    (bits,) = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    levels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
  else:
    return image
  photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
  if photometric == _WHITE_IS_ZERO:  # PIL heeds it up to 8 bits
    levels = 255 - levels
  result = Image.fromarray(levels)
  if "transparency" in image.info:  # the level that is
    shows = np.asarray(image) != image.info["transparency"]
    result.putalpha(Image.fromarray(np.where(shows, 255, 0).astype(np.uint8)))
  return result


def _from_unit_range(values: np.ndarray) -> np.ndarray:
  """Floating-point grey levels, black being 0 and white 1, as uint8."""
  lowest, highest = values.min(), values.max()
  if not (0 <= lowest and highest <= 1):  # nor is NaN
    raise ValueError(
      f"its samples are floating-point numbers from {lowest:g} to {highest:g};"
      " grey levels are those from 0, black, to 1, white; scale them, or save"
      " it with 8 or 16 bits"
    )
  return np.round(values * 255).astype(np.uint8)


@contextlib.contextmanager
def _decoding(
  file: BinaryIO | pathlib.Path, name: str = "of the records"
) -> Iterator[Image.Image]:
  """Opens an image of bearable size; whatever is wrong is a DecodingError."""
  try:
    with contextlib.ExitStack() as stack:
      if isinstance(file, pathlib.Path):
        # A TIFF whose name PIL knows it may map into memory, and then mixes up
        # the rows of one that is turned.
        file = stack.enter_context(open(file, "rb"))
      image = stack.enter_context(Image.open(file, formats=_FORMATS))
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(
          f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}"
        )
      if image.format == "TIFF":
        # By an orientation in there, PIL would turn the image as it loads it,
        # but has not turned its size.  Viewers look at the TIFF tag alone.
        image.info.pop("xmp", None)
      yield image
  except Exception as error:  # PIL's are of many kinds
    raise DecodingError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
  if isinstance(error, UnidentifiedImageError):
    return "of no known format"
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return one_line(error)
