"""Measures the data pipeline, and whether training ever waits for it.

python -m benchmarks.data

The benchmark makes up data sets of the sizes of Fashion-MNIST, CIFAR-10 and
Tiny-ImageNet.  TFDS prepares them, and they are read as the real ones are.  The
figures of each are

- the time of a first start, which prepares the data set (from no archive) and
  decodes it into memory;
- the time of a second start, and the peak memory of its process after 500
  batches, without the decoded training and validation splits;
- images a second, from memory and from records;
- the share of a training step that waits for data, in a real run of the
  adaptive model with the paper's settings, on all devices of this machine.

With --fashion_mnist=DIR, the directory of the four archives of Fashion-MNIST,
the benchmark also times their preparation.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import concurrent.futures
import contextlib
import io
import itertools
import multiprocessing
import pathlib
import tempfile
from typing import Any
from unittest import mock

from absl import app
from absl import flags
import ml_collections
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from benchmarks import report
from benchmarks import timing
from experiments import data
from experiments.configs import base
from experiments.configs import datasets
from experiments.configs import fashion_mnist
from experiments.configs import variants
from experiments.data import archives
from experiments.data import pipeline
from experiments.data import preparation
from experiments.data import prepared
from experiments.data.builder import ArchiveBuilder
from experiments.data.builder import Examples
from experiments.data.split import Split
from experiments.runs import metric_log
from experiments.training import loop

_FASHION_MNIST = flags.DEFINE_string(
  "fashion_mnist", None, "Directory of Fashion-MNIST's archives."
)
_STEPS = flags.DEFINE_integer("steps", 30, "Training steps of each run.")
_SHRINK = flags.DEFINE_integer(
  "shrink", 1, "Divides the numbers of images, to try the benchmark out."
)

_GIB = 2**30
_VALIDATION = 10_000
_EVALUATED = 64  # validation images of a run whose training is timed
_BATCHES = 500
_SHAPES = {  # side, channels, training images, the paper's batch size
  "fashion_mnist": (28, 1, 60_000, 64),
  "cifar10": (32, 3, 50_000, 64),
  "tiny_imagenet": (64, 3, 100_000, 24),
}


def main(argv: list[str]) -> None:
  del argv
  if _FASHION_MNIST.value:
    with tempfile.TemporaryDirectory() as root:
      config = fashion_mnist.get_config()
      config.data.manual_dir = _FASHION_MNIST.value
      config.data.data_dir = root
      _, seconds = timing.timed(lambda: _prepare_fashion_mnist(config.data))
      print(f"Preparing Fashion-MNIST from its archives: {seconds:.1f} s\n")
  rows = []
  for name in _SHAPES:
    with tempfile.TemporaryDirectory() as root:
      rows.append(_measure(_config(name, root)))
  report.show("Data pipeline", rows)


def _measure(config: ml_collections.ConfigDict) -> dict[str, Any]:
  first = _in_new_process(_start, config)
  second = _in_new_process(_start, config)
  config.data.memory_budget_gib = 0.0
  records = _in_new_process(_start, config)
  waits = {}
  for kind, budget in (("memory", 4.0), ("records", 0.0)):
    config.data.memory_budget_gib = budget
    waits[kind] = _in_new_process(_train, config)
  consumed = waits["memory"]["images_per_second"]
  side, channels = config.data.image_size, config.data.channels
  return {
    "images": f"{config.data.count} of {side} x {side} x {channels}",
    "first start (s)": round(first["seconds"], 1),
    "second start (s)": round(second["seconds"], 2),
    "memory beyond the split (GiB)": round(second["overhead"] / _GIB, 2),
    "the same, first start": round(first["overhead"] / _GIB, 2),
    "images/s from memory": round(second["images_per_second"]),
    "images/s from records": round(records["images_per_second"]),
    "images/s that training takes": round(consumed),
    "step waits, memory": f"{waits['memory']['data_wait']:.2%}",
    "step waits, records": f"{waits['records']['data_wait']:.2%}",
  }


def _start(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Loads the data as a run does, and reads batches as fast as it can."""
  with _synthetic():
    splits, seconds = timing.timed(lambda: data.load(config))
  batches = pipeline.TrainBatches(
    splits["train"].images,
    seed=0,
    batch_size=config.batch_size,
    num_steps=_BATCHES,
  )
  count, reading = timing.timed(
    lambda: sum(1 for _ in pipeline.iterate(batches))
  )
  decoded = sum(np.prod(split.images.shape) for split in splits.values())
  return {
    "seconds": seconds,
    "images_per_second": count * config.batch_size / reading,
    "overhead": timing.peak_memory() - float(decoded),
  }


def _train(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Trains, and returns figures of the run's log."""

  def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
    splits = _load(config)
    return {**splits, "validation": splits["validation"].subsample(_EVALUATED)}

  with tempfile.TemporaryDirectory() as workdir, _synthetic(load):
    with contextlib.redirect_stdout(io.StringIO()):
      loop.train_and_evaluate(config, workdir)
    logged = metric_log.read_metrics(pathlib.Path(workdir))
  values = [line["values"] for line in logged if line["split"] == "train"]
  # The time of the first line includes compilation.
  speed = np.median([line["steps_per_second"] for line in values[1:]])
  return {
    "data_wait": float(np.mean([line["data_wait"] for line in values[1:]])),
    "images_per_second": float(speed) * config.batch_size,
  }


class Synthetic(ArchiveBuilder, skip_registration=True):
  """A thousand different smooth pictures with noise, repeated."""

  VERSION = tfds.core.Version("1.0.0")
  ARCHIVES = ()

  @property
  def SPLITS(self) -> dict[str, int]:  # noqa: N802
    count = self.builder_config.count
    return {"train": count, "validation": min(count, _VALIDATION)}

  def _info(self) -> tfds.core.DatasetInfo:
    image = tfds.features.Image(shape=self.builder_config.shape)
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict({"image": image})
    )

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    del paths
    pictures = [self._picture(seed) for seed in range(1000)]

    def examples(count: int) -> Iterator[tuple[int, dict[str, bytes]]]:
      for key, picture in zip(range(count), itertools.cycle(pictures)):
        yield key, {"image": picture}

    return {split: examples(count) for split, count in self.SPLITS.items()}

  def _picture(self, seed: int) -> bytes:
    height, width, channels = self.builder_config.shape
    rng = np.random.default_rng(seed)
    mode = "RGB" if channels == 3 else "L"
    coarse = rng.integers(20, 236, (4, 4, channels)).astype(np.uint8)
    image = Image.fromarray(coarse.squeeze(), mode).resize((width, height))
    pixels = np.asarray(image) + rng.normal(0, 5, np.shape(image))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8), mode)
    file = io.BytesIO()
    # In the format of the real ones.
    image.save(file, format="JPEG" if width == 64 else "PNG")
    return file.getvalue()


class _SyntheticConfig(tfds.core.BuilderConfig):
  def __init__(self, shape: tuple[int, int, int], count: int):
    super().__init__(name=f"{'x'.join(map(str, shape))}_{count}")
    self.shape = shape
    self.count = count


def _config(name: str, root: str) -> ml_collections.ConfigDict:
  side, channels, count, batch_size = _SHAPES[name]
  config = _get_config()
  config.num_steps = _STEPS.value
  config.batch_size = batch_size
  config.log_every = 10
  config.rate_examples = 0
  config.data.paper_batch_size = batch_size
  config.data.image_size = side
  config.data.channels = channels
  config.data.data_dir = root
  config.data.count = count // _SHRINK.value
  return config


def _get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  config = base.get_config("synthetic")
  base.add_tfds_fields(config)
  config.data.count = 0  # images to train on
  return variants.apply(config, variant)


def _load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  shape = (config.image_size, config.image_size, config.channels)
  return prepared.load(Synthetic, config, _SyntheticConfig(shape, config.count))


def _synthetic(
  load: Callable[[ml_collections.ConfigDict], dict[str, Split]] = _load,
) -> contextlib.AbstractContextManager:
  """Registers the made-up data for `data.load` and for checks of configs."""
  stack = contextlib.ExitStack()
  stack.enter_context(mock.patch.dict(data.LOADERS, {"synthetic": load}))
  stack.enter_context(
    mock.patch.dict(datasets.GET_CONFIG, {"synthetic": _get_config})
  )
  stack.enter_context(
    mock.patch.object(archives, "find", lambda *_: {"made up": "/"})
  )
  return stack


def _prepare_fashion_mnist(config: ml_collections.ConfigDict) -> None:
  builder = data.fashion_mnist.FashionMNIST(data_dir=config.data_dir)
  preparation.prepare(builder, config.manual_dir)


def _in_new_process(
  function: Callable[[ml_collections.ConfigDict], dict[str, float]],
  config: ml_collections.ConfigDict,
) -> dict[str, float]:
  with concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context("spawn")
  ) as pool:
    return pool.submit(function, config).result()


if __name__ == "__main__":
  app.run(main)
