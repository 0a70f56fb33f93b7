import contextlib
import io
import os
import pathlib

from absl.testing import flagsaver
from absl.testing import parameterized

from experiments.configs import changes
from experiments.configs import config_file
from experiments.configs import datasets
from experiments.configs import variants
from experiments.errors import UserError

_CONFIGS = pathlib.Path(datasets.__file__).parent
_MNIST = """\
import ml_collections
import numpy as np
from experiments.configs import mnist
def get_config(variant="adaptive"):
  config = mnist.get_config(variant)
  {}
  return config
"""


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("--config.seed=1", "--config.FIELD=seed=1"),
    ("-config.seed=1", "--config.FIELD=seed=1"),
    ("--config.seed 1", "--config.FIELD=seed=1"),
    ("--config.seed -1", "--config.FIELD=seed=-1"),
    ("--config.learning_rate -.5", "--config.FIELD=learning_rate=-.5"),
    ("--config.data.data_dir=a=b", "--config.FIELD=data.data_dir=a=b"),
    ("--config.data.data_dir=", "--config.FIELD=data.data_dir="),
    ("--config.a --config.b=1", "--config.FIELD=a=true --config.FIELD=b=1"),
    ("--config.a --mode=train", "--config.FIELD=a=true --mode=train"),
    ("--config.a", "--config.FIELD=a=true"),
    ("--noconfig.a", "--config.FIELD=a=false"),
    ("--config=x.py", "--config=x.py"),
    ("--config x.py", "--config x.py"),
    ("--configs.a=1", "--configs.a=1"),
    ("-- --config.a", "-- --config.a"),
  )
  def test_fields_become_values_of_one_flag(self, given, expected):
    self.assertEqual(
      config_file._with_one_flag(given.split()), expected.split()
    )

  @parameterized.parameters(
    ("--noconfig.seed=3", "--noconfig.seed=3 has a value.*or give --config.s"),
    ("--noconfig.check_replicas=true", "has a value"),
    ("--nologtostderr=3", "logtostderr"),
  )
  def test_a_no_with_a_value(self, argument, message):
    with self.assertRaisesRegex(UserError, message):
      config_file.parse_flags(["main", argument])

  def from_flags(self, config, *changes):
    with flagsaver.flagsaver(
      (config_file._FILE, config), (config_file._CHANGES, list(changes))
    ):
      return config_file.from_flags()

  def test_the_config_of_the_flags(self):
    config = self.from_flags(
      str(_CONFIGS / "mnist.py:fixed_512x128"),
      "seed=3",
      "data.data_dir=a=b",
      "seed=4",
    )
    expected = datasets.default_config("mnist", "fixed_512x128")
    expected.seed, expected.data.data_dir = 4, "a=b"
    self.assertEqual(config.to_dict(), expected.to_dict())
    self.assertTrue(config.is_locked)

  def test_a_field_of_a_kind_may_come_before_the_kind(self):
    config = self.from_flags(
      str(_CONFIGS / "mnist.py"),
      "quantizer.choice.rate_weight=0.1",
      "quantizer.choice=distortion",
    )
    expected = datasets.default_config("mnist", "adaptive").quantizer
    expected.choice = {"kind": "distortion", "rate_weight": 0.1}
    self.assertEqual(config.quantizer.to_dict(), expected.to_dict())

  @parameterized.parameters("mnist", "photo_patches")
  def test_help_lists_the_variants(self, name):
    with contextlib.redirect_stdout(io.StringIO()) as output:
      with self.assertRaises(SystemExit) as end:
        self.from_flags(str(_CONFIGS / f"{name}.py:help"))
    self.assertEqual(end.exception.code, 0)
    self.assertEqual(output.getvalue(), f"{variants.describe(name)}\n")

  def test_there_may_be_no_config(self):
    self.assertIsNone(self.from_flags(None))

  @parameterized.parameters(
    (None, "seed=3", "--config names no file"),
    ("mnist.py", "num_stpes=3", "did you mean num_steps?"),
    ("mnist.py", "seed=x", "config.seed is 'x'; it must be an integer"),
    ("mnist.py", "name=cifar10", "is of mnist; name a config file of the"),
    ("mnist.py", "FIELD=5", "no field 'FIELD'"),
    ("mnist.py:adaptiv", None, "variant 'adaptiv' of mnist; did you mean"),
    ("mnist.py:", "seed=-", "config.seed is '-'; it must be an integer"),
  )
  def test_a_mistake_in_the_flags(self, name, change, message):
    config = name and str(_CONFIGS / name)
    changes = [] if change is None else [change]
    with self.assertRaisesRegex(UserError, message):
      self.from_flags(config, *changes)


class FileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "mine.py"

  def refused(self, message, variant=""):
    with self.assertRaisesRegex(UserError, message) as context:
      config_file._read(f"{self.path}{variant}")
    self.assertNotIn("\n", str(context.exception))

  @parameterized.parameters(
    ("config.num_steps = 2.0", "line 6, .*'num_steps'.* 2.0 .*'int'"),
    ("config.learning_rate = 'x'", "line 6, .*'learning_rate'.* x .*'float'"),
    ("config.check_replicas = 'no'", "line 6, .*'check_replicas'.*no .*'bool'"),
    ("config.model = 3", "line 6, .*'model'.* 3 .*ConfigDict"),
    ("config.num_steps = True", "mine.py, config.num_steps is True; .* an int"),
    ("config.seed = None", "config.seed is None; it must be an integer"),
    ("config.seed = 10**5000", "config.seed is too long .* an integer"),
    (
      "config.decay = 0.5",
      "no field 'decay'; did you mean quantizer.update.decay?",
    ),
    ("config.temperature = 'linear'", "temperature is config.sampling.temper"),
    (
      "config.quantizer.decay = 0.5",
      "mine.py, config.quantizer.decay is config.quantizer.update.decay now$",
    ),
    (
      "config.quantizer.codebook_size = 4",
      "no field 'quantizer.codebook_size'.* of kind 'adaptive' has cap",
    ),
    (
      "config.quantizer.kind = 'vq'",
      "kind is 'vq'; .* one of adaptive, vector",
    ),
    ("config.num_stpes = 5", "no field 'num_stpes'; did you mean num_steps?"),
    ("del config.quantizer.placement.init", "placement.init is missing"),
    ("del config.data", "config.data.channels is missing"),
    ("del config.name", "config.name is missing"),
    ("config.name = 'x'", "config.name is 'x'; it must be one of mnist, "),
    ("config.name = 'celeba'", "config.data.attributes is missing"),
    ("config[5] = 3", "cannot be used: "),
    ("return None", "get_config returns None; it must return an ml_coll"),
    ("return config.to_dict()", "get_config returns {.*; it must return an"),
    ("raise RuntimeError('a\\nb')", "RuntimeError in line 6, a b"),
    ("raise SystemExit(3)", "SystemExit in line 6, 3"),
    ("assert False", "AssertionError in line 6"),
    ("open('/nosuch')", "FileNotFoundError in line 6, .*/nosuch"),
    ("import nosuch_module", "ModuleNotFoundError in line 6, .*nosuch_module"),
    (
      "config = ml_collections.ConfigDict(dict(config.to_dict(), seed="
      "ml_collections.config_dict.required_placeholder(int)))",
      "cannot be used: RequiredValueError",
    ),
  )
  def test_a_mistake_in_a_config_file(self, line, message):
    self.path.write_text(_MNIST.format(line))
    self.refused(message)

  @parameterized.parameters(
    (b"def get_config(:", "invalid syntax .*line 1.*; it must be a Python"),
    (b"# The project\n\nIt does", "invalid syntax .*line 3.*; it must be a P"),
    (b"x = 1", "has no get_config; it must be a Python file"),
    (b"get_config = 5", "has no get_config; it must be a Python file"),
    (b"\xff\xfe\x00", "; it must be a Python file"),
    (b"x = 1\0", "; it must be a Python file"),
    (b"1 / 0", "ZeroDivisionError in line 1, division by zero"),
    (b"def get_config(): pass", "get_config returns None"),
    (b"def get_config(x): pass", "TypeError, get_config.. missing"),
    (b"", "has no get_config; it must be a Python file"),
  )
  def test_a_file_that_is_no_config(self, content, message):
    self.path.write_bytes(content)
    self.refused(f"--config={self.path} .*{message}")

  def test_no_such_file(self):
    self.refused("--config cannot be read: .*mine.py")
    self.path.mkdir()
    self.refused("--config cannot be read: .*directory.*mine.py")

  @parameterized.parameters("", "./")
  def test_the_packages_own_from_any_directory(self, prefix):
    before = os.getcwd()
    self.addCleanup(os.chdir, before)
    os.chdir(self.path.parent)
    name = f"{prefix}experiments/configs/mnist.py"
    self.assertEqual(config_file._read(name).name, "mnist")
    with self.assertRaisesRegex(UserError, "^--config cannot be read: .*mnst"):
      config_file._read("experiments/configs/mnst.py")
    with self.assertRaisesRegex(UserError, "^--config cannot be read: .*mnist"):
      config_file._read("configs/mnist.py")
    # One's own comes first.
    place = self.path.parent / name
    place.parent.mkdir(parents=True)
    place.write_text(_MNIST.format("config.num_steps = 7"))
    self.assertEqual(config_file._read(name).num_steps, 7)

  def test_a_file_may_take_another_kind(self):
    self.path.write_text(
      "from experiments.configs import changes, mnist\n"
      "def get_config():\n"
      "  config = mnist.get_config()\n"
      "  changes.apply(config, {'quantizer.update': 'gradient'})\n"
      "  config.quantizer['update'].decay = 0.5\n"
      "  return config\n"
    )
    config = config_file._read(str(self.path))
    self.assertEqual(
      config.quantizer["update"].to_dict(),
      {"kind": "gradient", "decay": 0.5, "codebook_cost": 1.0},
    )

  def test_a_variant_that_the_file_takes_none_of(self):
    self.path.write_text("def get_config(): pass")
    self.refused("TypeError, get_config.* 1 was given", variant=":x")

  @parameterized.parameters(
    ("config.num_steps = 5", 5),
    ("config = ml_collections.FrozenConfigDict(config)", 20_000),
    (
      "config = ml_collections.ConfigDict("
      "dict(config.to_dict(), num_steps=np.int64(7)))",
      7,
    ),
  )
  def test_a_file_of_ones_own(self, line, num_steps):
    self.path.write_text(_MNIST.format(line))
    config = config_file._read(f"{self.path}:cnn")
    self.assertIs(type(config.num_steps), int)
    self.assertEqual(config.num_steps, num_steps)
    self.assertEqual(config.model.network, "cnn")
    changes.apply_texts(config, [("num_steps", "9")])
    self.assertEqual(config.num_steps, 9)
