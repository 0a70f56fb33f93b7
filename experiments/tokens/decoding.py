"""Token files to images, with the model that encoded them."""

from collections.abc import Iterator
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image
import tqdm

from adq_jax import VQVAE
from adq_jax.streams import sent_mask
from adq_jax.streams import symbols
from experiments.data import augment
from experiments.data import images as image_files
from experiments.data import walk
from experiments.errors import UserError
from experiments.runs import frequencies
from experiments.runs import workdir as workdirs
from experiments.runs.checkpoints import load_state
from experiments.tokens import checks
from experiments.tokens import image_folder as folders
from experiments.tokens import model_identity
from experiments.tokens import output_place
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from experiments.tokens.mapped import Mapped


def decode(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  path: pathlib.Path,
  output: pathlib.Path,
) -> None:
  """Writes the images of a token file to a folder, as PNG files.

  Args:
    config: the config of a run.
    workdir: the directory of the run that encoded them, which must still have
      the checkpoint that did.
    path: the token file.
    output: the folder; there must be none yet.

  Raises:
    UserError: if the file is damaged or of another model, or the folder cannot
      be written.
  """
  checks.check_request(config, workdir, output)
  reader = token_file.Reader(path)
  model, variables = _load_model(config, workdir, path, reader)
  chunks = _chunks(workdir, model, reader)
  decode_batch = Mapped(
    lambda variables, codes: augment.to_uint8(
      model.apply(variables, codes, method="decode")
    ),
    variables,
  )
  count = 0
  with (
    output_place.replacing(output) as temporary,
    tqdm.tqdm(
      total=reader.header.num_images,
      desc="Decoding",
      unit="image",
      disable=None,  # where there is no terminal
    ) as progress,
  ):
    temporary.mkdir()
    for chunk in chunks:
      images = decode_batch(_to_codes(model, reader, chunk))
      for name, image in zip(chunk.names, images, strict=True):
        place = temporary / folders.decoded_name(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
          file.write(image_files.to_png(Image.fromarray(image.squeeze())))
      count += len(images)
      progress.update(len(images))
  print(f"{walk.printable(output)}: {count} images")


def _load_model(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  path: pathlib.Path,
  reader: token_file.Reader,
) -> tuple[VQVAE, dict[str, Any]]:
  """Returns the model that wrote a token file, and its variables.

  Raises:
    UserError: if the run does not have it, or the file is not what it wrote.
  """
  header = reader.header
  steps = workdirs.steps_of(workdir)
  model, state = load_state(
    config, workdir, header.step if header.step in steps else None
  )
  checks.check_streams(model)
  if not model_identity.matches(header.model, workdir, model, state.variables):
    raise UserError(
      f"token file {path} is of another model, {header.name!r}"
      f" {header.variant!r} at step {header.step}, than {workdir} holds"
      f" (checkpoints of steps {steps}); name its run with --workdir=DIR"
    )
  factor = config.model.downsampling
  if not header.is_of(model.streams) or header.downsampling != factor:
    raise reader.damaged("its header is not that of its model")
  return model, state.variables


def _chunks(
  workdir: pathlib.Path, model: VQVAE, reader: token_file.Reader
) -> Iterator[Chunk]:
  """Returns the chunks of a token file, which may need the run's frequencies.

  Raises:
    UserError: if the run does not have them.
  """
  if reader.header.tables is None:
    return iter(reader)
  step = reader.header.step
  found = frequencies.read(workdir, step, symbols(model.streams))
  return reader.chunks(found)


def _to_codes(model: VQVAE, reader: token_file.Reader, chunk: Chunk) -> Any:
  """Returns the model's codes of a chunk, 0 where they are not sent."""
  values = []
  for k, (stream, codes) in enumerate(
    zip(model.streams, chunk.codes, strict=True)
  ):
    grid = (chunk.height // stream.stride, chunk.width // stream.stride)
    value = np.zeros((len(chunk.names), *grid), np.int32)
    earlier = [jnp.asarray(codes) for codes in values]
    is_sent = np.asarray(sent_mask(model, k, earlier, value.shape))
    if np.count_nonzero(is_sent) != len(codes):
      raise reader.damaged(f"{stream.name} has another number of codes")
    value[is_sent] = codes
    values.append(value)
  return jax.tree.map(np.asarray, model.from_streams(values))
