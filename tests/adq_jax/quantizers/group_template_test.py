"""The quantizer of which each group of a product quantizer has a copy."""

from absl.testing import absltest

from adq_jax import FSQ
from adq_jax import VectorQuantizer
from adq_jax.quantizers import group_template


class StreamsOfTest(absltest.TestCase):
  def test_a_stream_has_the_name_of_its_group(self):
    (one,) = group_template.streams_of(2, VectorQuantizer(16, 3).streams)
    self.assertEqual((one.name, one.alphabet, one.width), ("group_2", 16, 3))

  def test_several_keep_their_names_and_are_counted_as_one_symbol(self):
    several = group_template.streams_of(1, FSQ((5, 3)).streams)
    names = [stream.name for stream in several]
    self.assertEqual(names, ["group_1_level_0", "group_1_level_1"])
    self.assertEqual({stream.group for stream in several}, {"group_1_levels"})


if __name__ == "__main__":
  absltest.main()
