import pathlib
import shutil
import tempfile

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import merge_codebook
from adq_jax import split_codebook
from experiments.errors import UserError
from experiments.model import build
from experiments.model.state import create_state
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs import workdir as workdirs
from tests.support import untrained


class CheckpointFileTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.made = pathlib.Path(directory.name) / "run"
    config = untrained.make_run(cls.made, untrained.ONE, step=3)
    model = build.create_model(config)
    cls.template = checkpoints.make_template(config, model)
    cls.state = create_state(config, model)

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"
    shutil.copytree(self.made, self.root)
    self.meta = self.root / workdirs.CHECKPOINTS / "3" / "meta" / "metadata"

  def test_what_was_saved_comes_back(self):
    found = checkpoint_file.read(self.root, 3, self.template)
    chex.assert_trees_all_equal(
      found.state, self.state.replace(step=np.int32(3))
    )
    self.assertEqual((found.seconds, found.mse, found.run_id), (0, None, ""))

  def test_a_changed_description_is_damage(self):
    content = self.meta.read_text()
    for old, new in (('"mse"', '"mze"'), ('"step": 3', '"step": 4')):
      self.meta.write_text(content.replace(old, new))
      found = checkpoint_file.read_all(self.root, self.template)
      self.assertEqual([*found.damaged], [3])
      self.assertEmpty(found.intact)

  def test_of_which_run_it_is_is_read_first(self):
    known = self.meta.read_text()
    self.meta.write_text(known.replace("{", '{"run_id": "b", ', 1))
    with self.assertRaisesRegex(UserError, "3: it is of another run, b"):
      checkpoint_file.check_own(self.root)
    self.meta.write_text("{")  # `read` tells what is wrong with it
    checkpoint_file.check_own(self.root)

  def test_hashes_tell_bits_shapes_and_dtypes_apart(self):
    arrays = (
      np.zeros(4, np.float32),
      -np.zeros(4, np.float32),
      np.zeros((2, 2), np.float32),
      np.zeros(4, np.int32),
    )
    hashes = {checkpoint_file.array_hashes({"a": x})["a"] for x in arrays}
    self.assertLen(hashes, 4)
    same = checkpoint_file.array_hashes({"a": jnp.zeros(4)})["a"]
    self.assertIn(same, hashes)

  def test_a_template_of_shards(self):
    sharded = checkpoint_file.with_shards(self.template, 4)
    self.assertEqual(checkpoint_file.shards_of(sharded), 4)
    self.assertIsNone(checkpoint_file.shards_of(self.template))
    parts = split_codebook(self.state.codebook, 4)
    chex.assert_trees_all_equal_shapes(
      merge_codebook(parts), self.template.codebook
    )
    chex.assert_trees_all_equal_shapes(
      sharded.codebook[0], jax.tree.map(lambda x: x[0], parts)
    )
