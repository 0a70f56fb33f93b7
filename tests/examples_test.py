"""The notebook runs, and imports modules from where they are."""

import pathlib

from absl.testing import absltest
import nbclient
import nbformat
import pytest

_ROOT = pathlib.Path(__file__).parents[1]


class ExamplesTest(absltest.TestCase):
  def test_the_notebook_imports_what_there_is(self):
    notebook = nbformat.read(_ROOT / "examples" / "adq_tpu.ipynb", as_version=4)
    imports = [
      line
      for cell in notebook.cells
      if cell.cell_type == "code"
      for line in cell.source.splitlines()
      if line.startswith(("from adq_jax", "from experiments"))
    ]
    self.assertNotEmpty(imports)
    for line in imports:
      exec(line, {})

  @pytest.mark.slow
  def test_the_notebook_runs_from_top_to_bottom(self):
    notebook = nbformat.read(_ROOT / "examples" / "adq_tpu.ipynb", as_version=4)
    workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
    changes = {
      "NUM_STEPS = 900": "NUM_STEPS = 8",
      '"runs/notebook"': repr(str(workdir)),
    }
    for cell in notebook.cells:
      for text, other in list(changes.items()):
        if text in cell.source:
          cell.source = cell.source.replace(text, other)
          del changes[text]
    self.assertEmpty(changes)
    nbclient.NotebookClient(
      notebook, timeout=900, resources={"metadata": {"path": str(_ROOT)}}
    ).execute()
    outputs = [
      output
      for cell in notebook.cells
      if cell.cell_type == "code"
      for output in cell.outputs
    ]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    self.assertLen(pictures, 4)
    said = "".join(output.get("text", "") for output in outputs)
    self.assertIn(f"Resuming {workdir} at step 8", said)
    self.assertRegex(said, r"24,576 bytes of pixels, [\d,]{3,5} of tokens")
    self.assertRegex(said, r"psnr \d+\.\d\d dB at \d+\.\d\d bits a position")
