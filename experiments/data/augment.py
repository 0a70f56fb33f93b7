"""From stored images to what the model sees."""

import jax
import jax.numpy as jnp
import numpy as np


def to_float(images: jax.Array) -> jax.Array:
  """uint8 images -> float32 in [-0.5, 0.5]."""
  return images.astype(jnp.float32) / 255.0 - 0.5


def to_uint8(images: jax.Array) -> jax.Array:
  """Images in [-0.5, 0.5], clipped to it -> uint8."""
  return jnp.round((jnp.clip(images, -0.5, 0.5) + 0.5) * 255).astype(jnp.uint8)


def augment(
  key: jax.Array,
  images: jax.Array,
  example_index: jax.Array,
  *,
  size: int,
  random_flip: bool,
) -> jax.Array:
  """Crops images at random where they are larger than `size`, and flips.

  Args:
    key: a PRNG key, the same on all devices.
    images: `[B, H, W, C]`, sides of at least `size`.
    example_index: place in the batch of all devices, int `[B]`; what happens
      to an image depends on it and the key alone.
    size: height and width of the crops.
    random_flip: whether half of the images are mirrored left to right.

  Returns:
    `[B, size, size, C]`.
  """

  def one(index, image):
    crop_key, flip_key = jax.random.split(jax.random.fold_in(key, index))
    room = jnp.array(image.shape[:2]) - size + 1
    y, x = jax.random.randint(crop_key, (2,), 0, room)
    image = jax.lax.dynamic_slice(
      image, (y, x, 0), (size, size, image.shape[2])
    )
    if random_flip:
      image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return image

  return jax.vmap(one)(example_index, images)


def crop_centre(images: np.ndarray, size: int) -> np.ndarray:
  """Cuts the centre `[n, size, size, C]` out of images `[n, H, W, C]`."""
  top = (images.shape[1] - size) // 2
  left = (images.shape[2] - size) // 2
  return images[:, top : top + size, left : left + size]
