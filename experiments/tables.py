"""Tables: trains what a directory lacks, and shows what it has.

python -m experiments.tables --dataset=cifar10 --table=1 --workdir=DIR

It may be interrupted and started again at any moment, and by several processes
that share DIR: what has ended is not run again, what has begun goes on, and
what another living process trains is left to it.
"""

from collections.abc import Sequence

from absl import app
from absl import flags

from experiments import errors
from experiments.processes import command
from experiments.processes import compilation
from experiments.study import contents

flags.adopt_module_key_flags(compilation)  # which --help shows
_DATASET = flags.DEFINE_string("dataset", None, "Data set, as in docs/data.md.")
_TABLES = flags.DEFINE_multi_enum(
  "table",
  None,
  list(map(str, contents.TABLES)),
  "Tables: 1 to 3 are the paper's.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "DIR, of all the runs.")
_SEEDS = flags.DEFINE_integer(
  "seeds", 1, "Runs of each variant, with config.seed 0, 1, ...", 1
)
_VARIANTS = flags.DEFINE_list(
  "variants", [], "Train these too; tables show their own variants alone."
)
_SET = flags.DEFINE_multi_string(
  "set", [], "FIELD=VALUE of all configs, such as num_steps=5000."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Say what would run, and how long, and run nothing."
)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  # Imported late, so that a wrong flag is told at once.
  from experiments.processes import platforms
  from experiments.study import runner
  from experiments.study import table_list
  from experiments.study import trials as trials_lib

  root, dataset = command.path_of(_WORKDIR), _DATASET.value
  trials_lib.check_root(root)
  tables = [int(table) for table in _TABLES.value]
  needed = [name for table in tables for name in contents.TABLES[table].rows]
  variants = dict.fromkeys([*needed, *_VARIANTS.value])
  seeds = range(_SEEDS.value)
  trials = [
    trials_lib.Trial(root, dataset, variant, seed)
    for seed in seeds
    for variant in variants
  ]
  configs = {trial: runner.make_config(trial, _SET.value) for trial in trials}
  runner.check_begun(configs)
  if _DRY_RUN.value:
    platforms.check_platform()
    compilation.keep_programs()  # of the steps that are timed
    print(runner.describe_plan(configs))
    return
  missing = {
    trial: config
    for trial, config in configs.items()
    if not runner.is_done(trial, config)
  }
  runner.train(missing, _SET.value)
  problems = []
  for table in tables:
    made = table_list.make(root, dataset, table, seeds)
    print(made.texts[".md"])
    try:
      for path in table_list.write(root, dataset, table, made):
        print(path)
    except errors.UserError as error:
      problems.append(str(error))
  left = [f"{trial} {trial.status()}" for trial in trials if not trial.summary]
  if left:
    problems.append(
      f"{len(left)} of {len(trials)} runs have not ended: {'; '.join(left)}"
    )
  if problems:
    raise errors.UserError("; ".join(problems))


if __name__ == "__main__":
  flags.mark_flags_as_required(["dataset", "table", "workdir"])
  command.run(main)
