"""Examples run, and import modules from where they are."""

import pathlib
import runpy
import sys
from unittest import mock

from absl.testing import absltest
import jax
import nbclient
import nbformat
import numpy as np
import pytest

from tests.support import only_jax
from tests.support.small import bits

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

  @pytest.mark.slow
  def test_the_tokenizer_that_is_exported_needs_jax_alone(self):
    pytest.importorskip("flatbuffers")  # which jax serializes with
    path = _ROOT / "examples" / "export_tokenizer.py"
    folder = pathlib.Path(self.create_tempdir().full_path)
    with mock.patch.object(sys, "argv", [str(path), str(folder)]):
      names = runpy.run_path(str(path))
    images = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3)) - 0.5
    np.save(folder / "images.npy", images)
    reader = _ROOT / "examples" / "use_exported_tokenizer.py"
    only_jax.run(reader.read_text(), folder, ".")
    streams = jax.jit(names["encode"])(images)
    np.testing.assert_array_equal(
      np.load(folder / "streams.npz")["arr_0"], streams[0]
    )
    values = jax.jit(names["decode"])(streams)
    np.testing.assert_array_equal(
      bits(np.load(folder / "decoded.npy")), bits(values)
    )
