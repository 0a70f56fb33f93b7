import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import flagsaver
from absl.testing import parameterized
import jax

from experiments import files
from experiments.errors import UserError
from experiments.processes import compilation
from experiments.runs import claims
from experiments.runs import workdir as workdirs
from experiments.study import runner
from experiments.study.trials import Trial
from experiments.training import timing
from tests.support import fake_runs


class ConfigTest(parameterized.TestCase):
  def make(self, *changes, dataset="mnist", variant="w_4096"):
    trial = Trial(pathlib.Path(), dataset, variant, 3)
    return runner.make_config(trial, changes)

  def test_changes(self):
    config = self.make(
      "num_steps=50",
      "data.data_dir=2024",
      "dtype=bfloat16",
      "check_replicas=true",
    )
    self.assertEqual(config.seed, 3)
    self.assertEqual(config.num_steps, 50)
    self.assertEqual(config.data.data_dir, "2024")
    self.assertIs(config.check_replicas, True)
    self.assertEqual(config.quantizer.capacity, 4096)

  @parameterized.parameters(
    ({"dataset": "imagenet"}, (), "data set 'imagenet'; known are mnist, "),
    ({"variant": "gamma"}, (), "variant 'gamma' of mnist; .*FILE:help"),
    ({}, ("num_steps",), "--set is 'num_steps'; it needs FIELD=VALUE"),
    ({}, ("num_stps=5",), "--set: .*num_stps.*did you mean num_steps?"),
    ({}, ("num_steps=many",), "--set: .*num_steps is 'many'; .* an integer"),
    ({}, ("num_steps=2.0",), "--set: .*num_steps is '2.0'; .* an integer"),
    ({}, ("learning_rate=inf",), "--set: .*learning_rate is inf; .* finite"),
    ({}, ("model=3",), "--set: config.model is '3'; .* a group of fields"),
    ({}, ("num_steps=99999999999",), "num_steps is 99999999999; .*at most"),
    ({}, ("batch_size=1000000000",), "batch_size is 1000000000 .* GiB"),
    ({}, ("num_steps=0",), "num_steps is 0; .*at least 1"),
    ({}, ("check_replicas=maybe",), "--set: .*check_replicas"),
    ({}, ("seed=7",), "'seed=7', but tells mnist/w_4096/seed_3 .*--seeds"),
    ({}, ("quantizer.capacity=64",), "w_4096 has a quantizer.capacity of its"),
    (
      {"variant": "improved"},
      ("learning_rate=1e-3",),
      "improved has a learning_rate of its own",
    ),
  )
  def test_errors(self, which, changes, message):
    with self.assertRaisesRegex(UserError, message):
      self.make(*changes, **which)


class TrainTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.enter_context(contextlib.redirect_stdout(io.StringIO()))

  def trials(self, *variants):
    trials = [Trial(self.root, "mnist", variant, 0) for variant in variants]
    changes = ("num_steps=200",)
    return {trial: runner.make_config(trial, changes) for trial in trials}

  def test_others_are_waited_for_and_nothing_is_done_twice(self):
    mine, theirs, done = "fixed_512x128", "fixed_1024x64", "fixed_2048x32"
    fake_runs.make(self.root, "mnist", done)
    configs = self.trials(theirs, done, mine)
    trained, naps = [], []
    other = contextlib.ExitStack()
    trial = next(iter(configs))
    other.enter_context(claims.claim(trial.workdir, configs[trial]))

    def train(trial, changes):
      trained.append(trial.variant)
      fake_runs.make(self.root, "mnist", trial.variant)
      return True

    def nap(seconds):
      naps.append(seconds)
      if len(naps) == 2:
        other.close()  # the other process has died
        for path in trial.workdir.iterdir():
          path.unlink()
        trial.workdir.rmdir()

    with (
      mock.patch.object(runner, "_train", train),
      mock.patch.object(runner.time, "sleep", nap),
    ):
      runner.train(configs, ())
    self.assertEqual(trained, [mine, theirs])
    self.assertLen(naps, 2)

  @parameterized.parameters(
    {"num_steps": 300},
    {"num_steps": 100},
    {"learning_rate": 1.0},
    {"rate_examples": 50},
  )
  def test_what_was_begun_with_another_config_is_named(self, **fields):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    trial = fake_runs.make(self.root, "mnist", "cnn", **fields)
    ((name, there),) = fields.items()
    with self.assertRaisesRegex(
      UserError,
      rf"mnist/cnn/seed_0 has been begun .* in {name} \({there} there, .*--set",
    ):
      runner.check_begun(self.trials("fixed_512x128", "cnn", "adaptive"))
    # Its summary tells too; nothing stays in the way of a run without a step.
    (trial.workdir / workdirs.METRICS).unlink()
    with self.assertRaisesRegex(UserError, "has been begun"):
      runner.check_begun(self.trials("fixed_512x128", "cnn"))
    (trial.workdir / workdirs.SUMMARY).unlink()
    runner.check_begun(self.trials("fixed_512x128", "cnn"))

  def test_a_run_from_before_there_was_a_field(self):
    trial = fake_runs.make(self.root, "mnist", "cnn", log_every=7)
    config = trial.config.to_dict()
    del config["on_nonfinite"], config["quantizer"]["selection_unit"]
    files.write_json(trial.workdir / workdirs.CONFIG, config)
    runner.check_begun(self.trials("cnn"))

  def test_why_it_failed_may_be_a_signal(self):
    said = ["error: no data", "step 450/5000  loss 0.01", ""]
    self.assertEqual(runner._reason(said, -9), "killed by SIGKILL")
    self.assertEqual(runner._reason(said, 2), "no data")
    self.assertEqual(runner._reason(said[1:], 1), said[1])

  def test_why_a_run_failed_is_kept(self):
    (trial,) = configs = self.trials("fixed_512x128")
    runner.train(
      configs,
      (
        "num_steps=200",
        f"data.data_dir={self.root}/tfds",
        f"data.manual_dir={self.root}/nothing",
      ),
    )
    self.assertRegex(trial.status(), r"failed: .*nothing.*\(exit code 2\)")
    self.assertIn("error: ", trial.output.read_text())

  @parameterized.parameters("failure", "output")
  def test_a_cell_that_cannot_be_run_stops_no_other(self, name):
    stuck, fine = configs = self.trials("fixed_512x128", "fixed_1024x64")
    path = getattr(stuck, name)
    (path / "mine").mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()) as output:
      runner.train(configs, ("num_steps=0",))  # which each run refuses
    self.assertRegex(output.getvalue(), f"{stuck} cannot be run .*{path.name}")
    self.assertIn("num_steps is 0", fine.status())
    self.assertTrue((path / "mine").exists())

  @parameterized.parameters("config.json", "summary.json")
  def test_a_damaged_run_is_left_to_say_so_itself(self, name):
    trial = fake_runs.make(self.root, "mnist", "fixed_512x128")
    (trial.workdir / name).write_text("{")
    configs = self.trials("fixed_512x128", "fixed_1024x64")
    runner.check_begun(configs)
    self.assertFalse(runner.is_done(trial, configs[trial]) and trial.summary)
    self.assertRegex(trial.status(), f"cannot be used: .*{name} is damaged")

  def test_a_plan_needs_the_platform_that_is_asked_for(self):
    failure = RuntimeError("Unable to initialize backend 'cuda'")
    with mock.patch.object(jax, "devices", side_effect=failure):
      with self.assertRaisesRegex(UserError, "JAX_PLATFORMS is"):
        runner.describe_plan(self.trials("cnn"))

  def test_plan(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    fake_runs.make(self.root, "mnist", "fixed_1024x64", is_finished=False)
    configs = self.trials("fixed_512x128", "fixed_1024x64", "adaptive", "cnn")
    with mock.patch.object(
      timing,
      "seconds_per_step",
      side_effect=lambda c: 60.0 if c.quantizer.kind == "vector" else 30.0,
    ) as measured:
      plan = runner.describe_plan(configs)
    self.assertEqual(measured.call_count, 3)
    self.assertEqual(
      plan,
      """\
mnist/fixed_512x128/seed_0: finished
mnist/fixed_1024x64/seed_0: at step 100 of 200; 100 steps of 60.00 s, 1 h 40 min
mnist/adaptive/seed_0: not run; 200 steps of 30.00 s, 1 h 40 min
mnist/cnn/seed_0: not run; 200 steps of 30.00 s, 1 h 40 min
3 of 4 runs, 5 h 0 min in all""",
    )

  def test_runs_of_tables_are_given_the_flag(self):
    self.assertEmpty(compilation.arguments())
    with flagsaver.flagsaver(compilation_cache="off"):
      self.assertEqual(compilation.arguments(), ["--compilation_cache=off"])
      with mock.patch.object(runner.subprocess, "Popen") as started:
        started.side_effect = OSError
        trial = Trial(self.root, "mnist", "cnn", 0)
        with self.assertRaises(OSError):
          runner._train(trial, ())
    self.assertIn("--compilation_cache=off", started.call_args.args[0])
