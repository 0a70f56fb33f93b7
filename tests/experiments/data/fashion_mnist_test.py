from absl.testing import parameterized

from tests.support import builders


class FashionMnistBuilderTest(
  builders.StockTests, builders.BuilderTests, parameterized.TestCase
):
  name = "fashion_mnist"
  refused_fields = (
    ({"image_size": 32}, "image_size is 32; images of fashion_mnist are 28"),
  )
