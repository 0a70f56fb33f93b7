from absl.testing import parameterized

from tests.support import builders


class Cifar10BuilderTest(
  builders.StockTests, builders.BuilderTests, parameterized.TestCase
):
  name = "cifar10"
  refused_fields = (
    ({"image_size": 36}, "image_size is 36; .* at most 32"),
    ({"channels": 1}, "channels is 1; images of cifar10 have 3"),
  )
