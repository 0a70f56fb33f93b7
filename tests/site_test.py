"""The site that Sphinx makes of the documentation.

`python -m sphinx -W docs docs/_build` makes it, and fails if a public name is
not in the reference, or a link between pages leads nowhere.
"""

import pathlib
from urllib import parse

from absl.testing import absltest
import bs4
import pytest

from tests.support import pages

_SITE = pages.ROOT / "docs" / "_build"


@pytest.mark.skipif(not _SITE.exists(), reason="the site has not been built")
class SiteTest(absltest.TestCase):
  @pytest.mark.slow
  def test_links_of_all_pages_lead_to_files_and_places(self):
    parsed = {
      path: bs4.BeautifulSoup(path.read_text(), "html.parser")
      for path in _SITE.rglob("*.html")
      if "_static" not in path.parts
    }
    self.assertGreater(len(parsed), 20)
    places = {
      path: {tag["id"] for tag in page.find_all(id=True)}
      for path, page in parsed.items()
    }
    broken = []
    for path, page in parsed.items():
      for tag in page.find_all(["a", "img", "link", "script"]):
        target = parse.urlparse(tag.get("href") or tag.get("src") or "")
        if target.scheme or target.netloc:
          continue
        file = _file(path, parse.unquote(target.path))
        is_there = file.exists()
        if is_there and target.fragment and file in places:
          is_there = parse.unquote(target.fragment) in places[file]
        if not is_there:
          broken.append(f"{path.relative_to(_SITE)}: {target.geturl()}")
    self.assertEmpty(broken)


def _file(page: pathlib.Path, target: str) -> pathlib.Path:
  """Returns the file to which a link of a page leads."""
  return (page.parent / target).resolve() if target else page


if __name__ == "__main__":
  absltest.main()
