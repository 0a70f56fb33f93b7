import contextlib
import io
import json
import pathlib

from absl.testing import parameterized

from benchmarks import data
from benchmarks import report


class DataTest(parameterized.TestCase):
  def test_a_start_is_measured(self):
    config = data._config("tiny_imagenet", self.create_tempdir().full_path)
    config.data.count = 50
    for budget in (4.0, 0.0):
      config.data.memory_budget_gib = budget
      figures = data._start(config)
      for name in ("seconds", "images_per_second", "overhead"):
        self.assertGreater(figures[name], 0)


class ReportTest(parameterized.TestCase):
  def test_a_table_and_its_json(self):
    path = pathlib.Path(self.create_tempdir()) / "figures.json"
    output = io.StringIO()
    rows = [{"what": "a", "ms": 1.5}, {"what": "b", "ms": 2}]
    with contextlib.redirect_stdout(output):
      report.show("Title", rows, str(path))
    self.assertEqual(
      output.getvalue().splitlines(),
      ["Title", "", "| what | ms |", "| --- | --- |"]
      + ["| a | 1.5 |", "| b | 2 |"],
    )
    self.assertEqual(json.loads(path.read_text())["rows"], rows)
