from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks

ONES = jnp.ones((2, 3))


class ArraysTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: checks.check_floating("z", [1.0]), "z is a list; it must be an"),
    (lambda: checks.check_floating("z", ONES.astype(int)), "z has dtype int32"),
    (
      lambda: checks.check_floating("z", ONES, rank=3),
      r"\(2, 3\); .* 3 axes",
    ),
    (
      lambda: checks.check_floating("z", ONES, min_rank=3),
      r"z has shape \(2, 3\); it must have at least 3 axes",
    ),
    (lambda: checks.check_integer("codes", ONES), "codes has dtype float32"),
    (
      lambda: checks.check_width("z", ONES, 4, "why"),
      "last axis must be 4",
    ),
    (
      lambda: checks.check_width("codes", ONES[0, 0], 4, "why"),
      r"codes has shape \(\); its last axis must be 4",
    ),
    (
      lambda: checks.check_count("n", 5, maximum=4, why="as there are"),
      "n is 5; it must be at most 4, as there are",
    ),
    (
      lambda: checks.check_shape("z", ONES, (3,), "why"),
      r"must be \(3,\), why",
    ),
    (
      lambda: checks.check_mask("mask", ONES / 2, (2, 3), "why"),
      "mask has the value 0.5; it must be 1",
    ),
    (
      lambda: checks.check_mask("mask", ONES, (3,), "why"),
      r"mask has shape \(2, 3\); it must be \(3,\), why",
    ),
  )
  def test_what_does_not_fit_is_named(self, check, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      check()
    self.assertNotIn("\n", str(caught.exception))

  def test_what_fits(self):
    for array in (ONES, np.ones((2, 3)), ONES.astype(jnp.bfloat16)):
      checks.check_floating("z", array, rank=2, min_rank=1)
      checks.check_width("z", array, 3, "why")
      checks.check_shape("z", array, (2, 3), "why")
      checks.check_mask("mask", array, (2, 3), "why")
    checks.check_integer("codes", np.ones(2, np.uint8))

  def test_not_negative_numbers_pass(self):
    numbers = np.array([0.0, 1.0, np.inf])
    checks.check_not_negative("price", numbers)
    checks.check_not_negative("price", numbers[:2], is_finite=True)
    traced = jax.jit(lambda x: checks.check_not_negative("price", x))
    self.assertIsNone(traced(-numbers))

  @parameterized.parameters(-1.0, np.nan)
  def test_negative_numbers_and_nan_are_refused(self, number):
    message = f"price has the value {number}; it must be 0 or more"
    with self.assertRaisesRegex(ValueError, message):
      checks.check_not_negative("price", np.array([1.0, number]))

  def test_infinity_is_refused_where_numbers_must_be_finite(self):
    message = "price has the value inf; it must be finite and 0 or more"
    with self.assertRaisesRegex(ValueError, message):
      checks.check_not_negative("price", np.array([np.inf]), is_finite=True)

  def test_values_of_a_mask_cannot_be_seen_where_it_is_traced(self):
    @jax.jit
    def check(mask):
      checks.check_mask("mask", mask, (2, 3), "why")
      return mask

    check(ONES / 2)


class NumbersTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda x: checks.check_count("n", x), (1, np.int64(2)), (0, True, 1.0)),
    (
      lambda x: checks.check_at_least("n", x, 0),
      (0, 0.5, np.float32(1)),
      (-1, "a", None, float("inf"), float("nan"), np.ones(2)),
    ),
    (lambda x: checks.check_bool("n", x), (True, np.bool_(False)), (1, None)),
    (lambda x: checks.check_choice("n", x, (1, 2)), (1, 2), (3, "1")),
    (
      lambda x: checks.check_axis_name("n", x),
      (None, "devices", ("a", "b")),
      (1, (), ("a", 2)),
    ),
  )
  def test_good_ones_pass_and_others_are_named(self, check, good, bad):
    for value in good:
      check(value)
    for value in bad:
      with self.assertRaisesRegex(ValueError, "n is .*; it must be"):
        check(value)

  def test_pairs_of_any_sequences(self):
    self.assertEqual(checks.as_pairs("x", [[1, 2], (3, 4)]), ((1, 2), (3, 4)))
    for bad in ([], [1, 2], [(1,)], "ab", [(1, 0)], 3):
      with self.assertRaisesRegex(ValueError, "^x(\\[0\\])? is "):
        checks.as_pairs("x", bad)

  def test_an_axis_that_is_there_or_not(self):
    checks.check_axis("axis_name", None)
    with self.assertRaisesRegex(ValueError, "axis_name is 'i', which is"):
      checks.check_axis("axis_name", "i")

    def check(x):
      checks.check_axis("axis_name", "i")
      return x

    jax.vmap(check, axis_name="i")(ONES)

  def test_an_axis_that_is_not_there_is_told_with_those_that_are(self):
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("i", "j"), axis_types=auto)

    def check(name):
      return lambda x: (checks.check_axis("axis_name", name, "x"), x)[1]

    def mapped(name, mapped_axes):
      return jax.shard_map(
        check(name),
        mesh=mesh,
        in_specs=jax.P("i"),
        out_specs=jax.P("i"),
        axis_names=mapped_axes,
      )

    x = jax.ShapeDtypeStruct((4,), jnp.float32)
    for name, function, told in (
      ("j", mapped("j", {"i"}), "i=4 mapped, j=2"),
      ("k", mapped("k", {"i", "j"}), "i=4 mapped, j=2 mapped"),
      ("i", check("i"), "i=4, j=2"),  # of jax.jit
    ):
      with jax.set_mesh(mesh):
        with self.assertRaisesRegex(
          ValueError,
          rf"^axis_name is '{name}', .* \(the mesh has {told}\); .* or x$",
        ):
          jax.eval_shape(function, x)
    with self.assertRaisesRegex(ValueError, "no mapped axis here; apply"):
      jax.eval_shape(jax.pmap(check("i")), x)
