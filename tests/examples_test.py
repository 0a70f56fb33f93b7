"""Examples run, and import modules from where they are."""

import contextlib
import io
import pathlib
import re
import runpy
import sys
from unittest import mock

from absl.testing import absltest
import jax
import nbclient
import nbformat
import numpy as np
import pytest

from tests.support import conversion
from tests.support import only_jax
from tests.support import untrained
from tests.support.small import bits

_ROOT = pathlib.Path(__file__).parents[1]


def _said(example, function, *arguments, **options):
  """Calls a function of an example; returns what it prints."""
  names = runpy.run_path(str(_ROOT / "examples" / f"{example}.py"))
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    names[function](*arguments, **options)
  return output.getvalue()


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

  def test_sound_is_better_with_more_stages(self):
    said = _said("tokenizer_for_sound", "run", steps=15, num_stages=2)
    found = re.findall(r"(\d) stages, +(\S+) kbit/s: (\S+) dB", said)
    stages, rates, decibels = np.array(found, float).T
    np.testing.assert_array_equal(stages, [1, 2])
    np.testing.assert_allclose(rates, 3 * stages)  # 500 positions of 6 bits
    self.assertGreater(decibels[1], decibels[0] + 0.5)

  def test_padded_frames_of_videos_do_not_count(self):
    said = _said("video_tokens", "run", steps=2)
    self.assertIn("(4, 8, 16, 16, 1) as tokens (4, 4, 4, 4): ", said)
    self.assertIn("one alone has the same: True", said)
    self.assertIn("the same whatever padded frames hold: True", said)

  def test_an_nnx_model_is_restored(self):
    said = _said("nnx_model", "run", steps=2)
    self.assertRegex(said, r"error 0\.\d+, with [1-9]\d* of 64 codewords")
    self.assertIn("the restored model gives the same codes: True", said)

  def test_a_codebook_is_cut(self):
    said = _said("sharded_codebook", "run", codebook_size=64)
    self.assertIn("holds (8, 16) of (64, 16)", said)
    self.assertIn("the codes are the same: True", said)
    self.assertIn("the codewords have moved alike: True", said)

  def test_photographs_are_smaller_where_bits_cost_more(self):
    root = pathlib.Path(self.create_tempdir())
    fields = {
      **untrained.ONE,
      "quantizer.kind": "residual",
      "quantizer.price": "coded",
      "quantizer.embedding_dim": 1,
      "quantizer.num_stages": 2,
    }
    untrained.make_run(root / "run", fields)
    conversion.make_images(root / "images", ((16, 18),) * 2)
    said = _said(
      "compress_photographs",
      "compress",
      root / "run",
      root / "images",
      prices=[0.0, 1e3],
    )
    self.assertIn("2 photographs, 512 pixels", said)
    pattern = r": ([\d,]+) bytes, (\S+) bits per pixel, (\S+) dB"
    found = re.findall(pattern, said)
    sizes = [int(size.replace(",", "")) for size, _, _ in found]
    self.assertLess(sizes[1], sizes[0])
    for size, (_, bits_per_pixel, decibels) in zip(sizes, found, strict=True):
      self.assertAlmostEqual(float(bits_per_pixel), 8 * size / 512, delta=1e-3)
      self.assertBetween(float(decibels), 1, 30)
