"""Figures as a person reads them."""

from collections.abc import Mapping
import pathlib
from typing import Any

from experiments import notation
from experiments.runs import workdir as workdirs


def one_line(step: int, figures: Mapping[str, Any]) -> str:
  """Returns one line about an evaluation on the validation split."""
  line = (
    f"step {step}  validation: mse {figures['mse']:.5f}"
    f"  psnr {figures['psnr']:.2f} dB"
    f"  recon_loss_sum {figures['recon_loss_sum']:.4f}"
  )
  if "rate_nominal" in figures:
    line += (
      f"  rate {figures['rate_nominal']:.2f} bits/position"
      f"  usage {figures['usage']:.1%}"
    )
  return line


def outcome(workdir: pathlib.Path, summary: Mapping[str, Any]) -> str:
  """Returns the lines that a finished run prints."""
  resize, mean = (
    summary["baselines"][name]["psnr"] for name in ("resize", "mean_color")
  )
  lines = [
    f"{summary['name']} {summary['variant']}: {summary['steps']} steps in"
    f" {summary['seconds']:.0f} s on {summary['devices']}",
    f"  validation psnr {summary['psnr']:.2f} dB ({resize:.2f} for a resize"
    f" down and up, {mean:.2f} for the mean colour)",
    f"  recon_loss_sum {summary['recon_loss_sum']:.4f}"
    f"  mse {summary['mse']:.6f}  ssim {summary['ssim']:.4f}",
    *_first_batch(summary),
    *_rates(summary),
  ]
  names = [path.name for path in sorted(workdir.glob("*.png"))]
  lines += [
    f"  pictures: {', '.join(str(workdir / name) for name in names)}",
    f"  figures: {workdir / workdirs.SUMMARY}, {workdir / workdirs.METRICS};"
    f" tensorboard --logdir {workdir}",
    f"  model: experiments.runs.checkpoints.load_model({str(workdir)!r})",
  ]
  return "\n".join(lines)


def _first_batch(summary: Mapping[str, Any]) -> list[str]:
  """Returns a line about the first batch; summaries of old runs have none."""
  loss = summary.get("recon_loss_first_batch")
  if loss is None:
    return []
  return [
    f"  recon_loss_first_batch {loss:.4f} (as the authors' code evaluates)"
  ]


def _rates(summary: Mapping[str, Any]) -> list[str]:
  """Returns lines with the rate of the codes, and how they are used."""
  if "rate_nominal" not in summary:
    return ["  rate none: its codes are not finite in number"]
  rate = f"{summary['rate_nominal']:.2f} bits/position"
  if "rate_coded" in summary:
    rate += f", {summary['rate_coded']:.2f} entropy-coded"
  lines = [
    f"  rate {rate} ({summary['rate_nominal_per_pixel']:.3f} bits/pixel)"
  ]
  if "codebooks" in summary:
    lines.append("  codebook      chosen   codewords used")
    rows = [
      (notation.structure_name(book["structure"]), book["selection"], book)
      for book in summary["codebooks"]
    ]
  else:
    lines.append("  stream          sent       codes used")
    rows = [(s["title"], s["sent"], s) for s in summary["streams"]]
  return lines + [
    f"  {title:<12}{share:8.1%}{figures['usage']:12.1%}"
    for title, share, figures in rows
  ]
