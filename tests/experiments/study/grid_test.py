from absl.testing import parameterized

from experiments.study import grid as grid_lib

GRID = grid_lib.Grid(
  "Table 0: A & B",
  ("", "50%"),
  (("[a]|b", "1 ± 2"), ("c_d", "-3")),
  best=(1, 1),
)


class GridTest(parameterized.TestCase):
  def test_markdown(self):
    self.assertEqual(
      grid_lib.markdown(GRID),
      "Table 0: A & B\n\n|  | 50% |\n|---|---|\n"
      "| [a]\\|b | 1 ± 2 |\n| c_d | **-3** |\n",
    )

  def test_latex(self):
    self.assertEqual(
      grid_lib.latex(GRID).splitlines()[1:],
      [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & 50\% \\",
        r"\midrule",
        r"{[}a]|b & 1 $\pm$ 2 \\",
        r"c\_d & \textbf{-3} \\",
        r"\bottomrule",
        r"\end{tabular}",
      ],
    )
