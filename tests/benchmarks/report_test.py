import contextlib
import io
import json
import pathlib

from absl.testing import flagsaver
from absl.testing import parameterized

from benchmarks import report


class ReportTest(parameterized.TestCase):
  def test_a_table_and_its_json(self):
    path = pathlib.Path(self.create_tempdir()) / "figures.json"
    output = io.StringIO()
    rows = [{"what": "a", "ms": 1.5}, {"what": "b", "ms": 2}]
    with (
      flagsaver.flagsaver(json=str(path)),
      contextlib.redirect_stdout(output),
    ):
      report.show("Title", rows)
    self.assertEqual(
      output.getvalue().splitlines(),
      ["Title", "", "| what | ms |", "| --- | --- |"]
      + ["| a | 1.5 |", "| b | 2 |"],
    )
    self.assertEqual(json.loads(path.read_text())["rows"], rows)
