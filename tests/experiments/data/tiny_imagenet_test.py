from absl.testing import parameterized

from tests.support import builders
from tests.support import sources


class TinyImagenetBuilderTest(builders.BuilderTests, parameterized.TestCase):
  name = "tiny_imagenet"
  refused_fields = (({"image_size": 68}, "image_size is 68; .* at most 64"),)


class BadClassesTest(sources.TestCase):
  def test_wrong_classes(self):
    sources.write("tiny_imagenet", self.root)
    path = self.archives / "tiny-imagenet-200.zip"
    wnids = "tiny-imagenet-200/wnids.txt"
    self.rewrite(path, {wnids: "n01443537\nn01629819\n"})
    self.refused("names 2 classes in wnids.txt; it must", "tiny_imagenet")
    self.rewrite(path, {wnids: "n01443537\nn01629819\nn99\n"})
    self.refused("a class 'n01641577' that is not", "tiny_imagenet")
