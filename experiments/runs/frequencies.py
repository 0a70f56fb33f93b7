"""The frequencies of a model's codes, as integers, from which codes are coded.

A run keeps the tables of the model of step N in `frequencies/N.npz`.  All of
them are integers, and so is all arithmetic with them: any machine gets the same
tables.  Files of earlier steps are kept, since token files may need them.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import io
import math
import pathlib
from typing import Any
import zipfile

import numpy as np

from adq_jax import VQVAE
from adq_jax.quantizers.tariff import TABLES
from adq_jax.streams import Symbol
from adq_jax.streams import symbols
from experiments import files
from experiments.errors import one_line
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs

TOTAL = 2**24  # of a table
WEIGHTS = 256  # of two rows together
MAX_PRICES = 256
# With more symbols the 1 that each has would be too large a share of the total.
MAX_SYMBOLS = 2**20

_REMEDY = "bring it back from a copy, or move it away"
_HEAD = 2**10  # bytes of an array in a file, beside its numbers


def has_table(symbol: Symbol) -> bool:
  """Returns whether a symbol's frequencies are kept."""
  return 1 < symbol.alphabet <= MAX_SYMBOLS


def table(weights: np.ndarray) -> np.ndarray:
  """Returns a table of frequencies: integers from 1, whose sum is `TOTAL`.

  Every symbol has 1, and the rest is shared out by the weights: rounded down,
  and then one more for each of those that lost most, the first of equals.

  Args:
    weights: integers `[A]`, from 0, A in [2, `MAX_SYMBOLS`]; their sum is in
      [1, 2^38).

  Returns:
    int64 `[A]`.
  """
  weights = weights.astype(np.int64)
  free = TOTAL - len(weights)
  shares, lost = np.divmod(weights * free, weights.sum())
  return 1 + _fill_up(shares, lost, free)


def _fill_up(shares: np.ndarray, lost: np.ndarray, total: int) -> np.ndarray:
  """Adds one to the shares that lost most, so that all add up to the total."""
  most = np.argsort(-lost, kind="stable")[: total - shares.sum()]
  shares[most] += 1
  return shares


def bits(counts: np.ndarray, frequencies: np.ndarray) -> float:
  """Returns the bits that symbols take.

  Args:
    counts: how often each of them is sent, `[A]`.
    frequencies: a table `[A]`; `[0]` where there is none, and all symbols take
      as many bits.
  """
  if not len(frequencies):
    return float(counts.sum() * math.log2(len(counts)))
  return float(counts @ np.log2(TOTAL / frequencies))


@dataclasses.dataclass(frozen=True, eq=False)
class Frequencies:
  """The tables of frequencies of a model, for one price of bits or several.

  Attributes:
    prices: of a bit, float64 `[K]`, ascending; (0,) for a model without one.
    tables: uint32 `[K, A]` for each symbol of the model's streams, each row of
      integers from 1 with the sum `TOTAL`; `[K, 0]` where `has_table` is false.
  """

  prices: np.ndarray
  tables: tuple[np.ndarray, ...]

  @property
  def sha256(self) -> str:
    """The hash, in hexadecimal, by which a token file names the tables."""
    digest = hashlib.sha256(self.prices.astype("<f8").tobytes())
    for rows in self.tables:
      digest.update(np.array(rows.shape, "<u4").tobytes())
      digest.update(rows.astype("<u4").tobytes())
    return digest.hexdigest()

  def at(self, price: float = 0.0) -> tuple[int, int]:
    """Returns the row of a price, and the weight of the next row in 256ths.

    Rows are mixed by the logarithm of the price.  Outside of the prices the
    nearest row has all weight.
    """
    row = int(np.searchsorted(self.prices, price, "right")) - 1
    if row < 0:
      return 0, 0
    if row == len(self.prices) - 1:
      return row, 0
    logs = np.log([price, *self.prices[row : row + 2]])
    part = (logs[0] - logs[1]) / (logs[2] - logs[1])
    return row, round(WEIGHTS * part)

  def mixed(self, row: int, weight: int) -> tuple[np.ndarray, ...]:
    """Returns the tables between a row and the next, int64 `[A]` each.

    Args:
      row: of `tables`.
      weight: of the next row, in [0, 256]; the row has what is left.

    Raises:
      ValueError: if there are no such rows, or no such weight.
    """
    last = row + (weight > 0)
    if not (0 <= row <= last < len(self.prices) and 0 <= weight <= WEIGHTS):
      raise ValueError(f"row {row} and weight {weight} are of other tables")
    mixed = []
    for rows in self.tables:
      first, second = rows[row].astype(np.int64), rows[last].astype(np.int64)
      shares, lost = np.divmod(
        (WEIGHTS - weight) * first + weight * second, WEIGHTS
      )
      mixed.append(_fill_up(shares, lost, TOTAL) if len(shares) else shares)
    return tuple(mixed)


def of_counts(
  symbols: Sequence[Symbol],
  counts: Sequence[Sequence[np.ndarray]],
  prices: Sequence[float] = (0.0,),
) -> Frequencies:
  """Returns the frequencies that `adq_jax.streams.coded_rate` codes by.

  Args:
    symbols: those of a model's streams.
    counts: for each price, how often each of the symbols is sent in the
      reference, whole numbers `[A]` each; 1/2 is added to them.
    prices: ascending, above 0 if there are several.
  """
  tables = []
  for i, symbol in enumerate(symbols):
    rows = np.zeros((len(prices), 0))
    if has_table(symbol):
      rows = np.stack([table(2 * of[i].astype(np.int64) + 1) for of in counts])
    tables.append(rows.astype(np.uint32))
  return Frequencies(np.asarray(prices, np.float64), tuple(tables))


def bits_of(
  found: Frequencies, symbols: Sequence[Symbol]
) -> tuple[np.ndarray, ...]:
  """Returns the bits of the codes of each symbol, float64 `[K, A]`.

  A symbol without a table takes as many bits as there are for its alphabet.

  Args:
    found: the frequencies.
    symbols: of the streams of their model.
  """
  return tuple(
    np.log2(TOTAL / rows)
    if rows.shape[1]
    else np.full((len(rows), symbol.alphabet), np.log2(symbol.alphabet))
    for symbol, rows in zip(symbols, found.tables, strict=True)
  )


def to_collection(
  found: Frequencies, symbols: Sequence[Symbol]
) -> dict[str, Any]:
  """Returns the collection by which a model's quantizer counts bits.

  Args:
    found: the frequencies.
    symbols: of the streams of their model, each of one stream.
  """
  names = [symbol.name for symbol in symbols]
  bits = zip(names, bits_of(found, symbols), strict=True)
  of_quantizer = {"prices": found.prices} | dict(bits)
  return {
    TABLES: {
      "quantizer": {
        name: np.asarray(x, np.float32) for name, x in of_quantizer.items()
      }
    }
  }


def with_tables(
  variables: dict[str, Any], found: Frequencies | None, model: VQVAE
) -> dict[str, Any]:
  """Returns a model's variables, with frequencies if its choice is by them.

  Args:
    variables: of the model.
    found: its frequencies, if there are any.
    model: the model.
  """
  is_priced = found is not None and len(found.prices) > 1
  if not (is_priced and model.has_price):
    return variables
  return {**variables, **to_collection(found, symbols(model.streams))}


def path_of(workdir: pathlib.Path, step: int) -> pathlib.Path:
  """Returns the path of the frequencies of a run's model of a step."""
  return workdir / workdirs.FREQUENCIES / f"{step}.npz"


def keep(workdir: pathlib.Path, step: int, found: Frequencies) -> None:
  """Writes frequencies of a run, unless it has those of this step.

  Token files may name those that it has.  A file that is none of the run's
  moves aside.

  Args:
    workdir: the directory of the run.
    step: the step of its model.
    found: the frequencies; those that are there must be of these symbols.
  """
  path = path_of(workdir, step)
  try:
    _read(workdir, step, [rows.shape[1] for rows in found.tables])
    return
  except FileNotFoundError:
    path.parent.mkdir(exist_ok=True)
  except files.UnreadableError as error:
    print(f"{error}: now {workdirs.move_aside(workdir, path)}")
  arrays = {f"table_{i}": rows for i, rows in enumerate(found.tables)}
  run_id = np.frombuffer(run_identity.read(workdir).encode(), np.uint8)
  with files.replacing(path) as temporary, open(temporary, "wb") as file:
    np.savez_compressed(file, prices=found.prices, run_id=run_id, **arrays)


def read(
  workdir: pathlib.Path, step: int, symbols: Sequence[Symbol]
) -> Frequencies | None:
  """Returns the frequencies of a run's model, trusting nothing in the file.

  Args:
    workdir: the directory of the run.
    step: the step of its model.
    symbols: of the streams of its model.

  Returns:
    None where there are none: the run is older than they are, or not done.

  Raises:
    files.UnreadableError: if the file is damaged, or of another model or run.
  """
  widths = [s.alphabet if has_table(s) else 0 for s in symbols]
  try:
    return _read(workdir, step, widths)
  except FileNotFoundError:
    return None


def _read(
  workdir: pathlib.Path, step: int, widths: Sequence[int]
) -> Frequencies:
  """Returns what the file of a step holds, A of each table being known."""
  path = path_of(workdir, step)
  try:
    if path.exists() and not path.is_file():  # a pipe would never end
      raise ValueError("it is no file")
    with zipfile.ZipFile(path) as archive:
      run_id = _array(archive, "run_id", np.uint8, (None,)).tobytes().decode()
      if not run_identity.is_own(run_id or None, run_identity.read(workdir)):
        raise files.UnreadableError(
          f"{path} is of another run, {run_id!r:.99}; {_REMEDY}"
        )
      prices = _array(archive, "prices", np.float64, (None,))
      _check_prices(prices)
      tables = tuple(
        _array(archive, f"table_{i}", np.uint32, (len(prices), width))
        for i, width in enumerate(widths)
      )
      if len(archive.namelist()) != len(tables) + 2:
        raise ValueError(f"it has more than {len(tables)} tables")
    _check_tables(tables)
  except (FileNotFoundError, files.UnreadableError):
    raise
  except Exception as error:  # zipfile's are of many kinds
    raise files.UnreadableError(
      f"{path} is damaged, or of another model ({one_line(error)}); {_REMEDY}"
    ) from error
  return Frequencies(prices, tables)


def _array(
  archive: zipfile.ZipFile,
  name: str,
  dtype: type,
  shape: tuple[int | None, ...],
) -> np.ndarray:
  """Returns an array of a file, of a size that is known or small."""
  wanted = [MAX_PRICES if side is None else side for side in shape]
  most = _HEAD + np.dtype(dtype).itemsize * math.prod(wanted)
  info = archive.getinfo(f"{name}.npy")
  if info.file_size > most:
    raise ValueError(f"{name} has {info.file_size} bytes, and not {most}")
  content = io.BytesIO(archive.read(info))
  np.lib.format.read_magic(content)
  found, _, found_dtype = np.lib.format.read_array_header_1_0(content)
  is_right = found_dtype == dtype and len(found) == len(shape)
  for side, right in zip(found, shape, strict=False):
    is_right = is_right and right in (None, side)
  if not is_right:
    raise ValueError(f"{name} is {found_dtype} {list(found)}")
  return np.frombuffer(content.read(), dtype).reshape(found)


def _check_prices(prices: np.ndarray) -> None:
  if not (
    1 <= len(prices) <= MAX_PRICES
    and np.isfinite(prices).all()
    and (prices[0] > 0 or len(prices) == 1)
    and (np.diff(prices) > 0).all()
  ):
    raise ValueError("its prices do not ascend")


def _check_tables(tables: Sequence[np.ndarray]) -> None:
  for i, rows in enumerate(tables):
    sums = rows.sum(axis=1, dtype=np.uint64)
    if rows.size and (rows.min() < 1 or (sums != TOTAL).any()):
      raise ValueError(
        f"table_{i} has a row that does not sum to {TOTAL}, or has a 0"
      )
