import gzip

from absl.testing import parameterized

from tests.support import builders
from tests.support import sources


class MnistBuilderTest(
  builders.StockTests, builders.BuilderTests, parameterized.TestCase
):
  name = "mnist"
  refused_fields = (
    ({"image_size": 32}, "image_size is 32; images of mnist are 28"),
  )


class BadLabelsTest(sources.TestCase):
  def test_labels_that_do_not_go_with_the_images(self):
    sources.write("mnist", self.root)
    path = self.archives / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    self.refused("t10k-images-idx3-ubyte.gz holds 4 images for 3 labels")
