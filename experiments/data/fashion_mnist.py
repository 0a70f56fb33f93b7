"""Fashion-MNIST, under TFDS's name and version of it."""

import ml_collections
from tensorflow_datasets.image_classification import mnist as stock

from experiments.data import mnist
from experiments.data import prepared
from experiments.data.split import Split


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (60,000 images) and "validation" (10,000, TFDS's "test").

  See `prepared.load`.
  """
  return prepared.load(FashionMNIST, config)


class FashionMNIST(
  mnist.IdxBuilder, stock.FashionMNIST, skip_registration=True
):
  """TFDS's builder, without TensorFlow."""

  url_infos = stock.FashionMNIST.url_infos
  ARCHIVES = mnist.idx_archives(
    stock.FashionMNIST.URL,
    {
      "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
      ),
      "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
      ),
      "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
      ),
      "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
      ),
    },
    hint=(
      " (or install Debian's package dataset-fashion-mnist, whose directory"
      " is /usr/share/datasets/fashion-mnist)"
    ),
  )
