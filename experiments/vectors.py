"""Fixed vectors: trains a QINCo on a file of them, and says how good it is.

python -m experiments.vectors --input=FILE

FILE is an array [T, D] as .npy, or .fvecs.  A residual quantizer is trained by
k-means, and a QINCo starts from it.  Of both, the mean squared error of other
vectors is printed, and the recall at 1 of a search among these.
"""

from collections.abc import Sequence

from absl import app
from absl import flags

from experiments import errors
from experiments.processes import command
from experiments.processes import compilation

flags.adopt_module_key_flags(compilation)  # which --help shows
_INPUT = flags.DEFINE_string("input", None, "FILE to train on.")
_BASE = flags.DEFINE_string(
  "base", None, "FILE to compress, and to search in; a tenth of --input."
)
_QUERIES = flags.DEFINE_string(
  "queries", None, "FILE to search for; another tenth of --input."
)
_STAGES = flags.DEFINE_integer("stages", 8, "S, of log2 K bits each.", 1)
_SIZE = flags.DEFINE_integer("codebook_size", 256, "K, codewords a stage.", 1)
_NETWORK = flags.DEFINE_enum(
  "network", "qinco", ["qinco", "qinco2"], "Of whom."
)
_BLOCKS = flags.DEFINE_integer("blocks", 2, "L, the network's blocks.", 0)
_HIDDEN = flags.DEFINE_integer("hidden", 256, "Hidden width of a block.", 1)
_WIDTH = flags.DEFINE_integer("width", 128, "Width of QINCo2's layers.", 1)
_CANDIDATES = flags.DEFINE_integer(
  "candidates", 0, "Codewords that networks are tried on; 0: all.", 0
)
_BEAM = flags.DEFINE_integer("beam", 1, "Sums that the search keeps.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Of the QINCo.", 1)
_BATCH = flags.DEFINE_integer("batch_size", 1024, "Vectors in a batch.", 1)
_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Of the first step.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Of all that is random.", 0)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  # Imported late, so that a wrong flag is told at once.
  from adq_jax import QINCo
  from experiments.evaluation import vector_search
  from experiments.processes import platforms
  from experiments.training import fixed_vectors

  train, base, queries = _read()
  quantizer = QINCo(
    _STAGES.value,
    _SIZE.value,
    train.shape[1],
    network=_network(),
    num_candidates=_CANDIDATES.value,
    beam_size=_BEAM.value,
    commitment_cost=0.0,  # of an encoder, which there is none of
  )
  try:
    quantizer.check()
  except ValueError as error:
    raise errors.UserError(str(error)) from error
  platforms.check_platform()
  compilation.keep_programs()
  print(f"{len(train)} vectors to train on, {len(base)} to search in")

  def show(name: str, trained: fixed_vectors.Trained) -> None:
    decoded = trained.decoded(base)
    figures = vector_search.measure(base, decoded, queries, trained.bits)
    print(
      f"{name:<9} {figures.bits:g} bits, MSE {figures.mse:.6g},"
      f" recall at 1 {figures.recall:.1%} of {len(queries)} queries",
      flush=True,
    )

  residual = fixed_vectors.train_residual(
    train, _STAGES.value, _SIZE.value, _SEED.value
  )
  show("residual", residual)
  trained = fixed_vectors.train_qinco(
    quantizer,
    residual,
    train,
    epochs=_EPOCHS.value,
    batch_size=min(_BATCH.value, len(train)),
    learning_rate=_RATE.value,
    seed=_SEED.value,
    report=lambda epoch, loss: print(
      f"epoch {epoch} of {_EPOCHS.value}, loss {loss:.6g}", flush=True
    ),
  )
  show("QINCo", trained)


def _read():
  """Returns vectors to train on, to search in and to search for."""
  import numpy as np

  from experiments.data import vector_file

  paths = [command.path_of(flag) for flag in (_INPUT, _BASE, _QUERIES)]
  if (paths[1] is None) != (paths[2] is None):
    raise errors.UserError(
      "of --base and --queries one alone is given; give both or none"
    )
  if paths[1] is not None:
    parts = [vector_file.read(path) for path in paths]
  else:
    vectors = vector_file.read(paths[0])
    tenth = len(vectors) // 10
    order = np.random.default_rng(_SEED.value).permutation(len(vectors))
    kept, base, queries = np.split(order, [len(order) - 2 * tenth, -tenth])
    parts = [vectors[np.sort(part)] for part in (kept, base, queries)]
    if not tenth:
      raise errors.UserError(
        f"{paths[0]} has {len(vectors)} vectors, too few to keep two tenths"
        " apart; give at least 10, or --base and --queries"
      )
  widths = [part.shape[1] for part in parts]
  if len(set(widths)) > 1:
    raise errors.UserError(
      f"the files have vectors of widths {widths}; give files of one width"
    )
  return parts


def _network():
  from adq_jax import QINCo2Network
  from adq_jax import QINCoNetwork

  if _NETWORK.value == "qinco":
    return QINCoNetwork(_BLOCKS.value, _HIDDEN.value)
  return QINCo2Network(_BLOCKS.value, _WIDTH.value, _HIDDEN.value)


if __name__ == "__main__":
  flags.mark_flags_as_required(["input"])
  command.run(main)
