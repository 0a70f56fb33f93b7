import dataclasses
import json

from absl.testing import parameterized

from adq_jax import Stream
from experiments.tokens import file_header
from tests.support import token_files


class HeaderTest(parameterized.TestCase):
  def test_json_and_back(self):
    for streams in (token_files.POOL, token_files.GRIDS, token_files.DEPTHS):
      header = token_files.header(streams)
      found = file_header.parse(json.loads(header.to_json()), 2)
      self.assertEqual(found, header)

  def test_what_reading_needs_not_is_left_out(self):
    stream = Stream(
      "index", 8, group="levels", width=4, labels=tuple("abcdefgh")
    )
    (bare,) = file_header.bare([stream])
    self.assertEqual(bare, Stream("index", 8))
    self.assertTrue(token_files.header((bare,)).is_of([stream]))

  def test_streams_of_another_model(self):
    header = token_files.header(token_files.GRIDS)
    self.assertFalse(header.is_of(token_files.GRIDS[::-1]))
    self.assertFalse(header.is_of(token_files.GRIDS[:1]))

  def test_the_first_version_has_structures(self):
    fields = dataclasses.asdict(token_files.header())
    for name in ("streams", "version"):
      del fields[name]
    one = file_header.parse(fields | {"structures": [[7, 2]]}, 1)
    self.assertEqual(one.streams, (Stream("index", 7),))
    pool = file_header.parse(fields | {"structures": [[7, 2], [5, 4]]}, 1)
    self.assertEqual(
      pool.streams,
      (
        Stream("book", 2, coding="entropy"),
        Stream("index_0", 7),
        Stream("index_1", 5),
      ),
    )
    # Its streams had no names.
    self.assertTrue(one.is_of([Stream("level", 7)]))
    self.assertFalse(one.is_of([Stream("level", 8)]))

  @parameterized.parameters(
    (None, "structures are no pairs"),
    ([[7]], "structures are no pairs"),
    ([[7, 0]], "structures is 0"),
  )
  def test_wrong_structures(self, structures, message):
    fields = dataclasses.asdict(token_files.header())
    for name in ("streams", "version"):
      del fields[name]
    with self.assertRaisesRegex(ValueError, message):
      file_header.parse(fields | {"structures": structures}, 1)
