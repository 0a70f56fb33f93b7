from absl.testing import parameterized

from experiments.configs import fields
from experiments.errors import UserError


class FieldsTest(parameterized.TestCase):
  def test_leaves_of_groups_have_names(self):
    tree = {"a": 1, "b": {"c": {"d": (2,)}, "e": "x"}, "f": {}}
    self.assertEqual(fields.flatten(tree), {"a": 1, "b.c.d": (2,), "b.e": "x"})

  @parameterized.parameters(
    ("5", int, 5),
    ("5.0", int, "5.0"),
    ("yes", bool, "yes"),
    ("1", bool, True),
    ("[1, 2]", tuple, [1, 2]),
    ("f()", tuple, "f()"),
  )
  def test_a_text_that_is_no_value_stays_a_text(self, text, kind, value):
    self.assertEqual(repr(fields.read(text, kind)), repr(value))

  @parameterized.parameters(
    (5, 0.0, 5.0), ([[1, 2]], (), ((1, 2),)), (["a"], ("b",), ("a",))
  )
  def test_a_value_is_cast_to_the_type_of_the_default(
    self, value, default, expected
  ):
    self.assertEqual(repr(fields.cast("x", value, default)), repr(expected))

  def test_a_value_of_another_type_is_named(self):
    with self.assertRaisesRegex(UserError, r"^config.x\[1\] is 3; .* a string"):
      fields.cast("x", ("a", 3), ("b",))

  def test_a_long_value_is_cut(self):
    self.assertEqual(fields.shown("a\nb"), r"'a\nb'")
    self.assertLen(fields.shown("x" * 500), 103)
    self.assertEqual(fields.shown(10**5000), "too long to print, of type int")
