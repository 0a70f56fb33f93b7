"""Settings of Sphinx: `python -m sphinx -W docs docs/_build`."""

import pathlib
import re
import shutil
import sys

from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)
DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import adq_jax  # noqa: E402
import adq_jax.nnx  # noqa: E402

project = "adq_jax"
author = "The adq_jax authors"
project_copyright = author
release = version = adq_jax.__version__

extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.autosummary",
  "sphinx.ext.mathjax",
  "sphinx.ext.napoleon",
  # Not linkcode: the site has the source itself, so it needs no other host.
  "sphinx.ext.viewcode",
  "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.*"]

html_theme = "sphinx_book_theme"
html_title = "adq_jax"
html_theme_options = {
  "navbar_persistent": [],  # the sidebar has the search
  "show_toc_level": 1,
  "use_download_button": False,
}
html_static_path = ["_static"]
html_css_files = ["wide.css"]

# The tests run the examples.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # of GitHub's form, which pages link

# In docstrings single backquotes are code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures of Flax modules are long enough
autodoc_default_options = {"members": True, "exclude-members": "setup"}
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _copy(folder: str, *patterns: str) -> None:
  """Copies pages that lie beside those of the docs."""
  shutil.rmtree(DOCS / folder, ignore_errors=True)
  for path in sorted(p for each in patterns for p in ROOT.glob(each)):
    copy = DOCS / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)


_copy("results", "results/**/*.md", "results/figures/*.png")
_copy("examples", "examples/*.ipynb")


def _links_of_the_site(app, name: str, source: list[str]) -> None:
  """Makes links between the repository's folders those of the site."""
  del app
  up = "../" if name.startswith("results/") else ""
  text = re.sub(r"\]\(\.\./README\.md[^)]*\)", f"]({up}index.md)", source[0])
  text = text.replace("](../results/", "](results/")
  text = text.replace("](../docs/", "](../")
  is_table = re.match(r"results/.*/table\d+$", name)
  source[0] = f"---\norphan: true\n---\n{text}" if is_table else text


def _from_markdown(app, what, name, thing, options, lines: list[str]) -> None:
  """Makes of a docstring, which has a little Markdown, what Sphinx reads."""
  del app, what, name, thing, options
  text = "\n".join(lines).replace("|", r"\|")
  # Indented lines below a paragraph are code.
  lines[:] = re.sub(r"(?m)(^\S.*\n\n)(?=    )", r"\1::\n\n", text).split("\n")


def _short_signature(app, what, name, thing, options, signature, returned):
  """Leaves out the fields that every Flax module has."""
  del app, what, name, thing, options
  if signature is None:  # of a property
    return None
  fields = r", parent=<.*_Sentinel.*?>, name=None"
  return re.sub(fields, "", signature), returned


def _check_public_names(app, environment) -> None:
  """Warns of public names that no page of the reference describes."""
  del app
  described = set(environment.get_domain("py").objects)
  for module in (adq_jax, adq_jax.nnx):
    for name in module.__all__:
      if f"{module.__name__}.{name}" not in described:
        _LOGGER.warning("no page of docs/api describes %s", name)


def setup(app) -> None:
  app.connect("source-read", _links_of_the_site)
  # Before napoleon, which has 500, as all do.
  app.connect("autodoc-process-docstring", _from_markdown, priority=400)
  app.connect("autodoc-process-signature", _short_signature)
  app.connect("env-check-consistency", _check_public_names)
