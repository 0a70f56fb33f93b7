from absl.testing import parameterized

from benchmarks import data


class DataTest(parameterized.TestCase):
  def test_a_start_is_measured(self):
    config = data._config("tiny_imagenet", self.create_tempdir().full_path)
    config.data.count = 50
    for budget in (4.0, 0.0):
      config.data.memory_budget_gib = budget
      figures = data._start(config)
      for name in ("seconds", "images_per_second", "overhead"):
        self.assertGreater(figures[name], 0)
