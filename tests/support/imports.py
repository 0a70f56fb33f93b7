"""What the modules of this repository import from each other."""

import ast
from collections.abc import Iterator
import dataclasses
import functools
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
_PACKAGES = ("adq_jax", "experiments", "benchmarks", "tests")


@dataclasses.dataclass(frozen=True)
class Import:
  """A name that one module uses of another.

  Attributes:
    importer: the path of the module that uses it, from the root.
    module: the path of the module that has it.
    name: the name, "" for the module itself.
  """

  importer: pathlib.Path
  module: pathlib.Path
  name: str = ""


def modules(package: str) -> list[pathlib.Path]:
  """Returns the paths, from the root, of the modules that hold any code."""
  return sorted(
    path.relative_to(ROOT)
    for path in (ROOT / package).rglob("*.py")
    if path.read_text().strip()
  )


@functools.cache
def imports_of(path: pathlib.Path) -> tuple[Import, ...]:
  """Returns what a module imports, anywhere in it, and uses of what it imports.

  Uses are the attributes of modules, as in `module.name`, and those that tests
  replace, as in `mock.patch.object(module, "name")`.
  """
  return tuple(_imports_of(path))


def _imports_of(path: pathlib.Path) -> Iterator[Import]:
  tree = ast.parse((ROOT / path).read_text())
  known = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        if module := _module(alias.name):
          yield Import(path, module)
    elif isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        module = _module(f"{node.module}.{alias.name}")
        if module:
          known[alias.asname or alias.name] = module
          yield Import(path, module)
        elif module := _module(node.module):
          yield Import(path, module, alias.name)
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      if node.value.id in known:
        yield Import(path, known[node.value.id], node.attr)
    elif isinstance(node, ast.Call):
      match node.args:
        case [ast.Name(id=owner), ast.Constant(value=str(name)), *_]:
          if owner in known:
            yield Import(path, known[owner], name)


def _module(name: str) -> pathlib.Path | None:
  """Returns the path of a module of this repository, None of any other."""
  if name.partition(".")[0] not in _PACKAGES:
    return None
  path = pathlib.Path(*name.split("."))
  for candidate in (path.with_suffix(".py"), path / "__init__.py"):
    if (ROOT / candidate).is_file():
      return candidate
  return None
