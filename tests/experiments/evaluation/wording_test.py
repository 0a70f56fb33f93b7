import pathlib

from absl.testing import parameterized

from experiments.evaluation import wording

_FIGURES = {"mse": 0.0123456, "psnr": 19.085, "recon_loss_sum": 1.5}
_RATE = {
  "rate_nominal": 6.125,
  "rate_nominal_per_pixel": 0.3828125,
  "usage": 0.25,
}
_SUMMARY = {
  "name": "photo_patches",
  "variant": "adaptive",
  "steps": 6,
  "seconds": 12.3,
  "devices": "1 x cpu",
  "ssim": 0.87654,
  "baselines": {"resize": {"psnr": 20.0}, "mean_color": {"psnr": 10.0}},
  **_FIGURES,
}


class OneLineTest(parameterized.TestCase):
  def test_with_and_without_a_rate(self):
    line = wording.one_line(6, _FIGURES)
    self.assertEqual(
      line,
      "step 6  validation: mse 0.01235  psnr 19.09 dB  recon_loss_sum 1.5000",
    )
    self.assertEqual(
      wording.one_line(6, _FIGURES | _RATE),
      f"{line}  rate 6.12 bits/position  usage 25.0%",
    )


class OutcomeTest(parameterized.TestCase):
  def test_codebooks_are_named_by_their_structure(self):
    book = {"structure": [16, 4], "selection": 0.75, "usage": 0.5}
    text = wording.outcome(
      pathlib.Path("run"),
      _SUMMARY | _RATE | {"codebooks": [book], "rate_coded": 5.5},
    )
    self.assertIn("photo_patches adaptive: 6 steps in 12 s on 1 x cpu", text)
    self.assertIn("mse 0.012346  ssim 0.8765\n", text)
    self.assertIn("20.00 for a resize down and up, 10.00 for the mean", text)
    self.assertIn("rate 6.12 bits/position, 5.50 entropy-coded (0.383", text)
    self.assertRegex(text, r"\[16,4\] +75\.0% +50\.0%\n")

  def test_the_first_batch_where_it_is_known(self):
    known = _SUMMARY | {"recon_loss_first_batch": 1.25}
    self.assertIn(
      "\n  recon_loss_first_batch 1.2500 (as the authors' code evaluates)\n",
      wording.outcome(pathlib.Path("run"), known),
    )
    text = wording.outcome(pathlib.Path("run"), _SUMMARY)
    self.assertNotIn("first_batch", text)

  def test_other_streams_are_named_by_their_title(self):
    stream = {"title": "levels", "sent": 1.0, "usage": 0.5}
    text = wording.outcome(
      pathlib.Path("run"), _SUMMARY | _RATE | {"streams": [stream]}
    )
    self.assertRegex(text, r"levels +100\.0% +50\.0%\n")

  def test_the_pictures_that_there_are(self):
    root = pathlib.Path(self.create_tempdir())
    (root / "selection.png").touch()
    text = wording.outcome(root, _SUMMARY)
    self.assertIn(f"pictures: {root}/selection.png\n", text)
    self.assertIn("rate none: its codes are not finite in number", text)
