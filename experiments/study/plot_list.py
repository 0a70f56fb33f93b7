"""The list of figures, and the runs that each of them needs."""

from collections.abc import Callable
import dataclasses

import matplotlib.pyplot as plt

from experiments.study import plots
from experiments.study import rate_distortion
from experiments.study import trials as trials_lib
from experiments.study.trials import Runs


@dataclasses.dataclass(frozen=True)
class Plot:
  """A figure of one data set's runs, or of all data sets.

  Attributes:
    name: the name of its files.
    caption: the text below it.
    draw: makes it from a data set's runs, or from all runs by data set.
    lacks: returns what runs it lacks, "" if none.
    images: which data sets it shows: "any", "grey" or "colour".
  """

  name: str
  caption: str
  draw: Callable[..., plt.Figure]
  lacks: Callable[[Runs], str]
  images: str = "any"

  def is_of(self, is_grey: bool) -> bool:
    """Returns whether it shows data sets of grey images, or of others."""
    return self.images in ("any", "grey" if is_grey else "colour")


def _lacks_fixed(count: int, ended: bool) -> Callable[[Runs], str]:
  def lacks(runs: Runs) -> str:
    found = plots.fixed(trials_lib.ended(runs) if ended else runs)
    if len(found) >= count:
      return ""
    state = "finished" if ended else "begun"
    return f"needs {count} fixed codebooks {state}, has {len(found)}"

  return lacks


def _lacks_adaptive(runs: Runs) -> str:
  return "" if "adaptive" in runs else "needs the adaptive run"


def _lacks_reconstructions(runs: Runs) -> str:
  ended = "adaptive" in trials_lib.ended(runs)
  return "" if ended else "needs the adaptive run finished"


_SELECTION = "How often each codebook is chosen over training."


# The figures of each data set.
PLOTS = (
  Plot(
    "figure2",
    "Figure 2. Gradient gap and quantization loss of fixed codebooks.",
    plots.gap_and_loss,
    _lacks_fixed(1, ended=False),
  ),
  Plot(
    "figure3",
    f"Figure 3. {_SELECTION}",
    plots.selection,
    _lacks_adaptive,
    "colour",
  ),
  Plot(
    "figure6",
    f"Figure 6. {_SELECTION}",
    plots.selection,
    _lacks_adaptive,
    "grey",
  ),
  Plot(
    "figure4",
    "Figure 4. The pool beside the fixed codebooks with the smallest gradient"
    " gap and with the smallest loss; of the pool's quantization loss, the mean"
    " and the range over codebooks.",
    lambda runs: plots.comparison({"": runs}),
    _lacks_fixed(1, ended=True),
  ),
  Plot(
    "figure5",
    "Figure 5. Validation images, reconstructions, chosen codebooks.",
    plots.reconstructions,
    _lacks_reconstructions,
  ),
  Plot(
    "loss_against_size",
    "Loss against N at constant N x D, with the fit of equations 11 to 15 and"
    " one with a constant.",
    plots.loss_against_size,
    _lacks_fixed(3, ended=True),
  ),
  Plot(
    "rate_distortion",
    "Loss against bits per position. A BD-rate is the mean difference in bits"
    " at equal PSNR from the fixed codebooks that were trained in the same way;"
    " below 0 is better.",
    rate_distortion.draw,
    _lacks_fixed(1, ended=True),
  ),
  Plot(
    "usage",
    "Codewords used on the validation split.",
    plots.usage,
    _lacks_fixed(1, ended=True),
  ),
)


# The figures over all data sets that have the runs for them.
OVERVIEWS = (
  Plot(
    "figure7",
    "Figure 7. Gradient gap of fixed codebooks.",
    plots.gradient_gaps,
    _lacks_fixed(1, ended=False),
  ),
  Plot(
    "figure9",
    "Figure 9. The pool beside fixed codebooks, as in figure 4.",
    plots.comparison,
    _lacks_fixed(1, ended=False),
  ),
  Plot(
    "figure8",
    "Figure 8. Gradient gap of fixed codebooks, grey images, without the first"
    " 1,000 updates.",
    plots.gaps_without_start,
    _lacks_fixed(1, ended=False),
    "grey",
  ),
)
