"""One self-contained page with the tables and figures of a directory."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html
import pathlib
import re
import urllib.parse

_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 70em;
  padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
figure { margin: 2em 0 } img { max-width: 100% }
"""


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of the page.

  Attributes:
    name: that of its files, DIR/figures/NAME.svg and NAME.png.
    caption: the text below it.
  """

  name: str
  caption: str


def make(
  root: pathlib.Path,
  tables: Mapping[str, Sequence[str]],
  drawn: Mapping[str, Sequence[Figure]],
  problems: Sequence[str],
) -> str:
  """Returns the page as HTML.

  Args:
    root: DIR, with the figures in DIR/figures.
    tables: the tables by data set, as `grid.markdown` returns them.
    drawn: the figures, by data set; "" for those of all.
    problems: what is left out, and why.
  """
  title = "Adaptive dynamic quantization: tables and figures"
  parts = [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    f"<title>{title}</title><style>{_STYLE}</style></head><body>",
    f"<h1>{title}</h1>",
    *(f"<p>{html.escape(problem)}</p>" for problem in problems),
  ]
  for dataset, texts in tables.items():
    parts.append(f"<h2>{html.escape(dataset)}</h2>")
    parts += [_table(text) for text in texts]
    parts += [_figure(root, figure) for figure in drawn.get(dataset, ())]
  if drawn.get(""):
    parts.append("<h2>All data sets</h2>")
    parts += [_figure(root, figure) for figure in drawn[""]]
  return "\n".join([*parts, "</body></html>", ""])


def _table(markdown: str) -> str:
  """Returns a table of `grid.markdown` as HTML."""
  caption, _, header, _, *rows = markdown.splitlines()
  lines = [f"<h3>{html.escape(caption)}</h3>", "<table>"]
  for tag, row in [("th", header), *(("td", row) for row in rows)]:
    texts = re.split(r"(?<!\\)\|", row.removeprefix("|").removesuffix("|"))
    texts = [text.strip().replace(r"\|", "|") for text in texts]
    cells = []
    for text in texts:
      bare = html.escape(text.strip("*"))
      is_best = text.startswith("**")
      cells.append(f"<{tag}>{f'<b>{bare}</b>' if is_best else bare}</{tag}>")
    lines.append(f"<tr>{''.join(cells)}</tr>")
  return "\n".join([*lines, "</table>"])


def _figure(root: pathlib.Path, figure: Figure) -> str:
  stem = root / "figures" / figure.name
  # Curves are smaller and sharper as SVG, photographs are smaller as PNG.
  urls = (
    _url_of_text(stem.with_suffix(".svg").read_text(encoding="utf-8")),
    _url_of_bytes(stem.with_suffix(".png").read_bytes()),
  )
  caption = html.escape(figure.caption)
  return (
    f"<figure><img src='{min(urls, key=len)}' alt=\"{caption}\">"
    f"<figcaption>{caption}</figcaption></figure>"
  )


def _url_of_bytes(png: bytes) -> str:
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _url_of_text(svg: str) -> str:
  """Returns a URL of an SVG, to be put between apostrophes.

  Most characters stand for themselves: in base64 it would be a third longer.
  """
  drawing = " ".join(
    re.sub(".*?(?=<svg)", "", svg, count=1, flags=re.S).split()
  )
  return f"data:image/svg+xml,{urllib.parse.quote(drawing, safe=_PLAIN)}"


# What a URL between apostrophes may have, beside letters and digits.
_PLAIN = ' "<>=/:;,()!*+'
