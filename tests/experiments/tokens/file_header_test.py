import json

from absl.testing import parameterized

from adq_jax import Stream
from experiments.tokens import file_header
from tests.support import old_tokens
from tests.support import token_files


class HeaderTest(parameterized.TestCase):
  def test_json_and_back(self):
    tables = file_header.Tables("0" * 64, 3, 128)
    for streams in (token_files.POOL, token_files.GRIDS, token_files.LEVELS):
      header = token_files.header(streams, tables=tables)
      found = file_header.parse(json.loads(header.to_json()), 3)
      self.assertEqual(found, header)

  def test_what_reading_needs_not_is_left_out(self):
    stream = Stream("index", 8, group="all", width=4, labels=tuple("abcdefgh"))
    (bare,) = file_header.bare([stream])
    self.assertEqual(bare, Stream("index", 8, group="all"))
    self.assertTrue(token_files.header((bare,)).is_of([stream]))

  def test_streams_of_another_model(self):
    header = token_files.header(token_files.GRIDS)
    self.assertFalse(header.is_of(token_files.GRIDS[::-1]))
    self.assertFalse(header.is_of(token_files.GRIDS[:1]))

  def test_the_first_version_has_structures(self):
    fields = old_tokens.fields_of(token_files.header())
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
    fields = old_tokens.fields_of(token_files.header())
    with self.assertRaisesRegex(ValueError, message):
      file_header.parse(fields | {"structures": structures}, 1)

  def test_what_the_second_version_could_not_code(self):
    fields = old_tokens.fields_of(token_files.header())
    stream = token_files.fields_of(alphabet=257, coding="entropy")
    del stream["group"]
    with self.assertRaisesRegex(ValueError, "alphabet is 257"):
      file_header.parse(fields | {"streams": [stream]}, 2)
    with self.assertRaisesRegex(ValueError, "fields of another version"):
      stream["alphabet"] = 256
      file_header.parse(fields | {"streams": [stream], "tables": None}, 2)
