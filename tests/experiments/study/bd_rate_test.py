import math

from absl.testing import parameterized

from experiments.study import bd_rate
from experiments.study.curves import Point


def _points(*pairs: tuple[float, float]) -> list[Point]:
  return [Point(rate, 0.0, psnr) for rate, psnr in pairs]


# Squared errors 0.01, 0.005, 0.002 and 0.001, all on their lower hull.
REFERENCE = _points((4, 20), (6, 23.0103), (9, 26.9897), (12, 30))


class CompareTest(parameterized.TestCase):
  @parameterized.parameters(0.9, 1.0, 1.25)
  def test_a_share_of_the_bits_at_every_psnr(self, share):
    points = [Point(share * p.rate, 0.0, p.psnr) for p in REFERENCE]
    found = bd_rate.compare(REFERENCE, points[::-1])
    self.assertAlmostEqual(found.percent, 100 * (share - 1), places=9)
    self.assertEqual((found.psnr, found.problem), ((20, 30), ""))

  def test_it_is_of_the_psnr_that_both_reach(self):
    # log2 of the rate is 2 at 20 dB and 4 at 30, and half more from 24 on.
    reference = _points((4, 20), (16, 30))
    points = _points((2 ** (2.8 + 0.5), 24), (2 ** (4.8 + 0.5), 34))
    found = bd_rate.compare(reference, points)
    self.assertAlmostEqual(found.percent, 100 * (math.sqrt(2) - 1), places=9)
    self.assertEqual(found.psnr, (24, 30))

  def test_points_off_the_hull_do_not_count(self):
    points = [Point(0.9 * p.rate, 0.0, p.psnr) for p in REFERENCE]
    found = bd_rate.compare(
      REFERENCE + _points((10, 25)), points + _points((11, 29), (20, 30))
    )
    self.assertAlmostEqual(found.percent, -10, places=9)

  @parameterized.parameters(
    ([], "it has 0 of 2 points that a curve needs"),
    ([(5, 25)], "it has 1 of 2 points that a curve needs"),
    ([(5, 25), (6, 24)], "it has 1 of 2 points that a curve needs"),
    ([(1, 10), (3, 20)], "it has no PSNR in common with the reference"),
    ([(1, 31), (3, 40)], "it has no PSNR in common with the reference"),
  )
  def test_why_there_is_none(self, pairs, problem):
    found = bd_rate.compare(REFERENCE, _points(*pairs))
    self.assertEqual(found, bd_rate.Comparison(problem=problem))

  def test_a_reference_needs_points_too(self):
    found = bd_rate.compare(REFERENCE[:1], REFERENCE)
    self.assertEqual(
      found.problem, "the reference has 1 of 2 points that a curve needs"
    )


class LowerHullTest(parameterized.TestCase):
  def test_two_models_in_turn_beat_a_point_above_the_line_between_them(self):
    # Halfway between errors of 0.01 and 0.002 is one of 0.006, 22.2 dB.
    ends = _points((4, 20), (8, 26.9897))
    for psnr, is_on in ((22.2, False), (22.3, True)):
      (middle,) = _points((6, psnr))
      hull = bd_rate.lower_hull([middle, *ends[::-1]])
      self.assertEqual(hull, [ends[0]] + [middle] * is_on + [ends[1]])

  def test_what_takes_more_bits_for_no_smaller_error_is_left_out(self):
    self.assertEqual(
      bd_rate.lower_hull(REFERENCE + _points((4, 19), (13, 30), (14, 28))),
      REFERENCE,
    )

  def test_what_is_no_number_is_left_out(self):
    nan, inf = math.nan, math.inf
    odd = _points((0, 10), (nan, 20), (5, nan), (5, inf), (inf, 40))
    self.assertEqual(bd_rate.lower_hull(odd + REFERENCE), REFERENCE)
