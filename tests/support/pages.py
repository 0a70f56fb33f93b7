"""The pages of the documentation, their examples and their links."""

import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
  str(path.relative_to(ROOT)): path.read_text()
  for path in (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/api/*.md")),
    *sorted(ROOT.glob("results/*.md")),
  )
}


def examples(page: str) -> list[str]:
  """Returns the Python examples of a page, in order."""
  return re.findall(r"```python\n(.*?)```", PAGES[page], re.S)


def run(
  page: str,
  names: dict[str, Any] | None = None,
  changes: dict[str, str] | None = None,
) -> dict[str, Any]:
  """Runs the Python examples of a page in order; returns what they define.

  Args:
    page: a key of `PAGES`.
    names: what the examples find defined.
    changes: texts of the examples, with those to put in their place.
  """
  defined = dict(names or {})
  code = "\n".join(examples(page))
  for text, other in (changes or {}).items():
    if text not in code:
      raise ValueError(f"the examples of {page} have no {text!r}")
    code = code.replace(text, other)
  exec(code, defined)
  return defined


def anchors(text: str) -> set[str]:
  """Returns the anchors that GitHub gives to the headings of a page."""
  without_code = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
  found = set()
  for heading in re.findall(r"^#+ +(.*)$", without_code, re.M):
    plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
    slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
    copy = 0
    while (f"{slug}-{copy}" if copy else slug) in found:
      copy += 1
    found.add(f"{slug}-{copy}" if copy else slug)
  return found
