"""The rows of tables: the runs of a variant, and their figures over seeds."""

from collections.abc import Sequence
import dataclasses
import pathlib

from experiments.configs import variants
from experiments.study import comparable
from experiments.study import contents
from experiments.study import paper
from experiments.study import trials as trials_lib
from experiments.study.over_seeds import Statistic
from experiments.study.over_seeds import statistic
from experiments.study.trials import Trial


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    name: the name that the table gives to the row.
    variant: the name of the variant in configs.
    paper: the paper's number; None where it has none.
    trials: the finished runs, one for each seed.
    status: what the other runs are doing; "" where there are none.
    has_failed: whether some of the other runs failed, or cannot be used.
    beside: finished runs of the variant as the authors' code has it.
  """

  name: str
  variant: str
  paper: float | None
  trials: tuple[Trial, ...]
  status: str = ""
  has_failed: bool = False
  beside: tuple[Trial, ...] = ()

  def figure(self, *path: str) -> Statistic | None:
    return statistic(self.trials, *path)

  @property
  def loss(self) -> Statistic | None:
    return self.figure("recon_loss_sum")

  @property
  def first_batch(self) -> Statistic | None:
    """The loss as the authors evaluate; None where no run has it."""
    return self.figure("recon_loss_first_batch")

  @property
  def most_probable(self) -> Statistic | None:
    """The loss with the most probable codebook at each position."""
    return self._evaluated("not_drawn", "drawn")

  @property
  def drawn(self) -> Statistic | None:
    """The loss with sampled codebooks, as in training."""
    return self._evaluated("drawn", "not_drawn")

  @property
  def loss_beside(self) -> Statistic | None:
    """The loss as the authors' code has the variant; None if it was not run."""
    return statistic(self.beside, "recon_loss_sum")

  def _evaluated(self, way: str, other: str) -> Statistic | None:
    """Returns the loss of one way of evaluation; None if there is only one way.

    A summary has the loss of the config's way, and under a key of its own that
    of the other way.
    """
    if self.figure(other, "recon_loss_sum"):
      return self.loss
    return self.figure(way, "recon_loss_sum")


def make(
  root: pathlib.Path, dataset: str, table: int, seeds: Sequence[int]
) -> list[Row]:
  """Returns the rows of a table.

  Args:
    root: DIR.
    dataset: the data set of the runs.
    table: a key of `contents.TABLES`.
    seeds: the expected ones; runs of other seeds count too.

  Raises:
    UserError: if the runs are not of one kind.
  """
  content = contents.TABLES[table]
  titles = content.rows
  runs = {
    variant: {seed: Trial(root, dataset, variant, seed) for seed in seeds}
    for variant in titles
  }
  found = trials_lib.find_trials(root, dataset)
  for trial in found:
    if trial.variant in runs:
      runs[trial.variant][trial.seed] = trial
  beside = [t for t in found if t.variant in content.beside.values()]
  comparable.check_alike(
    [t for by_seed in runs.values() for t in by_seed.values()] + beside
  )
  rows = []
  for variant, title in titles.items():
    trials = [runs[variant][seed] for seed in sorted(runs[variant])]
    others = [trial for trial in trials if not trial.summary]
    rows.append(
      Row(
        name=title or variants.find(dataset, variant).title,
        variant=variant,
        paper=paper.number(table, dataset, variant),
        trials=tuple(trial for trial in trials if trial.summary),
        status="; ".join(f"seed {c.seed} {c.status()}" for c in others),
        has_failed=any(trial.failed() or trial.problem() for trial in others),
        beside=tuple(
          trial
          for trial in beside
          if trial.summary and trial.variant == content.beside[variant]
        ),
      )
    )
  return _best_and_adaptive(rows) if table == 2 else rows


def _best_and_adaptive(rows: Sequence[Row]) -> list[Row]:
  """Table 2: the fixed codebook with the smallest loss, and the pool."""
  *fixed, adaptive = rows
  numbers = [row.paper for row in fixed if row.paper is not None]
  measured = [row for row in fixed if row.trials]
  missing = [row.name for row in fixed if row.status]
  status = f"of {', '.join(missing)}: not all runs" if missing else ""
  name, best = "Fixed codebook", fixed[0]
  if measured:
    best = min(measured, key=lambda row: row.loss.mean)
    name += f", the best: {best.name}"
  best = dataclasses.replace(
    best,
    name=name,
    paper=min(numbers) if numbers else None,
    status=status,
    trials=best.trials if measured else (),
  )
  return [best, adaptive]
