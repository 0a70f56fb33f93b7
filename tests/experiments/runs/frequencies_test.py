import contextlib
import io
import pathlib
import zipfile

from absl.testing import parameterized
import numpy as np

from adq_jax import Stream
from adq_jax.streams import coded_rate
from adq_jax.streams import symbols
from experiments import files
from experiments.runs import frequencies
from experiments.runs import workdir as workdirs

STREAMS = (
  Stream("book", 3, coding="entropy"),
  Stream("index", 512),
  Stream("alone", 1),
  Stream("many", 2**20 + 1),
)
SYMBOLS = symbols(STREAMS)


def make(prices=(0.0,), seed=0):
  rng = np.random.default_rng(seed)
  counts = [
    [
      rng.multinomial(5000, rng.dirichlet(np.full(s.alphabet, 0.1)))
      for s in SYMBOLS[:2]
    ]
    + [np.full(1, 5000.0), np.zeros(2**20 + 1)]
    for _ in prices
  ]
  return frequencies.of_counts(SYMBOLS, counts, prices), counts


class TableTest(parameterized.TestCase):
  def test_by_hand(self):
    # 2^24 - 3 is shared out by 1 : 1 : 2.  A quarter is 4,194,303.25, which
    # leaves one for the half, which lost most.
    np.testing.assert_array_equal(
      frequencies.table(np.array([1, 1, 2])), [4_194_304, 4_194_304, 2**23]
    )
    # Two that lost as much: the first has the one that is left.
    np.testing.assert_array_equal(
      frequencies.table(np.array([3, 3, 0])), [2**23, 2**23 - 1, 1]
    )

  @parameterized.parameters(2, 3, 1000, 2**20)
  def test_sums_and_closeness(self, alphabet):
    weights = np.random.default_rng(0).geometric(0.01, alphabet) - 1
    weights[0] = 2**30
    found = frequencies.table(weights)
    self.assertEqual(found.sum(), 2**24)
    self.assertEqual(found[weights == 0].max(initial=1), 1)
    right = 1 + weights * ((2**24 - alphabet) / weights.sum())
    np.testing.assert_array_less(abs(found - right), 1 + 1e-6)


class FrequenciesTest(parameterized.TestCase):
  def test_the_rate_is_the_coded_rate(self):
    found, (counts,) = make()
    _, (others,) = make(seed=1)
    bits = sum(
      (count * (24 - np.log2(rows[0]))).sum()
      for count, rows in zip(others[:2], found.tables[:2], strict=True)
    )
    wanted = coded_rate(SYMBOLS[:2], others[:2], counts[:2], 5000)
    np.testing.assert_allclose(bits / 5000, wanted, rtol=1e-4)

  def test_symbols_without_a_table(self):
    found, _ = make()
    self.assertEqual(
      [rows.shape for rows in found.tables], [(1, 3), (1, 512), (1, 0), (1, 0)]
    )
    self.assertEmpty(found.mixed(0, 0)[3])

  @parameterized.parameters(
    (0.5, (0, 0)), (1, (0, 0)), (2, (0, 128)), (4, (1, 0)), (3.999, (0, 256)),
    (8, (1, 85)), (32, (2, 0)), (99, (2, 0)),
  )  # fmt: skip
  def test_rows_of_prices(self, price, wanted):
    found, _ = make((1.0, 4.0, 32.0))  # 8 is a third of the way, as a logarithm
    self.assertEqual(found.at(price), wanted)

  def test_a_model_without_a_price(self):
    found, _ = make()
    self.assertEqual((found.at(), found.at(7.0)), ((0, 0), (0, 0)))

  def test_mixtures(self):
    tables = (np.array([[2**24 - 9, 4, 5], [1, 2**24 - 2, 1]], np.uint32),)
    found = frequencies.Frequencies(np.array([1.0, 2.0]), tables)
    for row in (0, 1):
      np.testing.assert_array_equal(found.mixed(row, 0)[0], tables[0][row])
    np.testing.assert_array_equal(found.mixed(0, 256)[0], tables[0][1])
    # A quarter of the second: 12,582,905.5; 4,194,306.5; 4.  One is left.
    np.testing.assert_array_equal(
      found.mixed(0, 64)[0], [12_582_906, 4_194_306, 4]
    )
    for row, weight in ((-1, 0), (2, 0), (1, 1), (0, 257), (0, -1)):
      with self.assertRaisesRegex(ValueError, "of other tables"):
        found.mixed(row, weight)

  def test_the_hash_depends_on_all(self):
    hashes = {
      frequencies.Frequencies(np.array(prices), tables).sha256
      for prices in ([0.0], [1.0])
      for tables in ((np.uint32([[1, 2]]),), (np.uint32([[1], [2]]),), ())
    }
    self.assertLen(hashes, 6)


class FileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(self.create_tempdir())
    self.name_run("a" * 32)

  def name_run(self, run_id):
    files.write_json(self.workdir / workdirs.CONFIG, {workdirs.RUN_ID: run_id})

  def read(self, streams=STREAMS):
    return frequencies.read(self.workdir, 6, symbols(streams))

  @parameterized.parameters(((0.0,),), ((0.5, 1.0),))
  def test_there_and_back(self, prices):
    self.assertIsNone(self.read())
    written, _ = make(prices)
    frequencies.keep(self.workdir, 6, written)
    self.assertEqual(self.read().sha256, written.sha256)

  def test_what_token_files_may_name_is_kept(self):
    first, second = make()[0], make(seed=1)[0]
    frequencies.keep(self.workdir, 6, first)
    frequencies.keep(self.workdir, 6, second)
    frequencies.keep(self.workdir, 7, second)
    self.assertEqual(self.read().sha256, first.sha256)

  def test_what_is_none_moves_aside(self):
    path = frequencies.path_of(self.workdir, 6)
    path.parent.mkdir()
    path.write_text("no zip")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      frequencies.keep(self.workdir, 6, make()[0])
    self.assertRegex(
      output.getvalue(), r"6.npz is damaged.*now .*damaged/6.npz"
    )
    self.assertIsNotNone(self.read())

  def refused(self, message, streams=STREAMS):
    with self.assertRaisesRegex(files.UnreadableError, message) as caught:
      self.read(streams)
    self.assertNotIn("\n", str(caught.exception))

  def test_of_another_run_or_model(self):
    frequencies.keep(self.workdir, 6, make()[0])
    self.refused("6.npz is damaged, or of another model", STREAMS[:2])
    other = (Stream("book", 4, coding="entropy"), *STREAMS[1:])
    self.refused(r"another model \(table_0 is uint32 \[1, 3\]\)", other)
    self.name_run("b" * 32)
    self.refused("6.npz is of another run, 'aaaa")

  def rewrite(self, name, value):
    """Writes a file of frequencies with another array in it."""
    frequencies.keep(self.workdir, 6, make((1.0, 2.0))[0])
    path = frequencies.path_of(self.workdir, 6)
    with np.load(path) as archive:
      arrays = dict(archive) | {name: np.asarray(value)}
    np.savez_compressed(path, **arrays)

  @parameterized.parameters(
    ("table_0", np.uint32([[2**24 - 2, 1, 1], [2**24 - 2, 1, 2]]), "not sum"),
    ("table_0", np.uint32([[2**24 - 2, 1, 1], [2**24 - 1, 1, 0]]), "has a 0"),
    # A sum that is right in 32 bits alone.
    ("table_0", np.uint32([[2**31, 2**31, 2**24], [1, 1, 1]]), "not sum"),
    ("table_1", np.zeros((2, 512)), "table_1 has 8320 bytes|float64"),
    ("table_9", np.zeros(1), "more than 4 tables"),
    ("prices", np.array([2.0, 1.0]), "do not ascend"),
    ("prices", np.array([0.0, 1.0]), "do not ascend"),
    ("prices", np.array([1.0, np.nan]), "do not ascend"),
    ("prices", np.zeros(0), "do not ascend"),
    ("prices", np.array(["a"], object), "prices is object"),
    ("prices", np.zeros(2**20), "prices has 8388736 bytes, and not 3072"),
    ("run_id", np.uint8([255]), "utf-8"),
  )
  def test_arrays_that_are_none(self, name, value, message):
    self.rewrite(name, value)
    self.refused(message)

  def test_a_header_that_promises_more_than_memory_holds(self):
    self.rewrite("table_0", np.zeros((1, 3), np.uint32))
    path = frequencies.path_of(self.workdir, 6)
    with zipfile.ZipFile(path) as archive:
      members = {name: archive.read(name) for name in archive.namelist()}
    members["table_0.npy"] = members["table_0.npy"].replace(
      b"(1, 3)", b"(2, 3000000000000)"
    )
    with zipfile.ZipFile(path, "w") as archive:
      for name, content in members.items():
        archive.writestr(name, content)
    self.refused(r"damaged, or of another model")

  def test_cut_short(self):
    frequencies.keep(self.workdir, 6, make()[0])
    path = frequencies.path_of(self.workdir, 6)
    path.write_bytes(path.read_bytes()[:-30])
    self.refused("6.npz is damaged")
    path.unlink()
    path.mkdir()
    self.refused("it is no file")
