"""The files that data sets are made from: finding, checking, reading them."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import gzip
import hashlib
import pathlib
import tarfile
import zipfile

import requests

from experiments.errors import one_line
from experiments.errors import UserError
from experiments.processes.limits import LimitedFile
from experiments.processes.limits import MAX_ARCHIVE
from experiments.processes.limits import MAX_MEMBER

_CONNECT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Archive:
  """A file that a data set is made from.

  Attributes:
    name: the name of the file.
    url: the address from which TFDS gets it; None where a person must get it.
    page: the address for a person, if it is not the url.
    hint: more about how a person gets it.
    sha256: the hash of its content, for a .gz of the unpacked content (so that
      another gzip of the same file, such as Debian's, is as good); None where
      the source is not fixed.
    size: the size in bytes of a file whose own SHA-256 is known.
    other_names: names that a browser may have given to the file.
  """

  name: str
  url: str | None = None
  page: str | None = None
  hint: str = ""
  sha256: str | None = None
  size: int | None = None
  other_names: tuple[str, ...] = ()


def find(
  archives: Sequence[Archive], manual_dir: str, data_dir: pathlib.Path
) -> dict[str, pathlib.Path]:
  """Returns the checked files by name, or {} if TFDS is to download them.

  Args:
    archives: the needed ones.
    manual_dir: the directory that holds them; "" for TFDS's own place for
      files fetched by hand, `data_dir/downloads/manual`.
    data_dir: the data directory of TFDS.

  Raises:
    UserError: if one is missing and may not be downloaded, or is damaged.
  """
  directory = manual_directory(manual_dir, data_dir)
  found = {}
  for archive in archives:
    paths = [directory / n for n in (archive.name, *archive.other_names)]
    path = next((path for path in paths if path.is_file()), None)
    if path is not None:
      found[archive.name] = path
    elif manual_dir or archive.url is None:
      raise UserError(f"archive {paths[0]} is missing; {remedy(archive)}")
  if len(found) < len(archives):
    return {}
  for archive in archives:
    _check(archive, found[archive.name])
  return found


def manual_directory(manual_dir: str, data_dir: pathlib.Path) -> pathlib.Path:
  """Returns the directory of files that are fetched by hand."""
  if manual_dir:
    return pathlib.Path(manual_dir).expanduser()
  return data_dir / "downloads" / "manual"


def remedy(archive: Archive) -> str:
  """Returns what to do about a missing or damaged file."""
  return (
    f"fetch it from {archive.page or archive.url}{archive.hint} and put it"
    " there, or name another directory with --config.data.manual_dir=DIR"
  )


def download_remedy(
  archives: Sequence[Archive], directory: pathlib.Path
) -> str:
  """Returns what to do where a download fails."""
  what = ", ".join(
    f"{archive.name} from {archive.page}" if archive.page else archive.url
    for archive in archives
  )
  them = "it" if len(archives) == 1 else "them"
  return (
    f"fetch {what}{archives[0].hint} and put {them} into {directory}, or name"
    f" another directory with {them} by --config.data.manual_dir=DIR"
  )


def check_connection(
  archives: Sequence[Archive], directory: pathlib.Path
) -> None:
  """Raises a UserError within seconds where there is no network.

  TFDS would try for minutes before it said so.

  Args:
    archives: those to download.
    directory: a directory for copies that are fetched by hand.
  """
  try:
    requests.head(archives[0].url, timeout=_CONNECT_SECONDS)
  except (requests.ConnectionError, requests.Timeout) as error:
    raise UserError(
      f"cannot reach {archives[0].url} to download it;"
      f" {download_remedy(archives, directory)}"
    ) from error


@contextlib.contextmanager
def reading(archive: Archive, path: pathlib.Path) -> Iterator[None]:
  """Turns what reading a damaged archive raises into a UserError."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # of many kinds, for damage of any kind
    raise UserError(
      f"archive {path} is damaged ({one_line(error)}); {remedy(archive)}"
    ) from error


def unpack_gzip(archive: Archive, path: pathlib.Path) -> bytes:
  """Returns the content of a .gz."""
  with reading(archive, path), gzip.open(path) as file:
    return LimitedFile(file, MAX_MEMBER).read()


def read_tar(
  archive: Archive, path: pathlib.Path, names: Iterable[str]
) -> dict[str, bytes]:
  """Returns the members of those names of a .tar.gz; nothing is written."""
  contents, missing = {}, set(names)
  with (
    reading(archive, path),
    gzip.open(path) as file,
    tarfile.open(fileobj=LimitedFile(file, MAX_ARCHIVE), mode="r:") as tar,
  ):
    for member in tar:
      if member.name in missing:
        if not member.isreg():
          raise ValueError(f"{member.name} is no file")
        content = LimitedFile(tar.extractfile(member), MAX_MEMBER)
        contents[member.name] = content.read()
        missing.remove(member.name)
      if not missing:
        return contents
    raise ValueError(f"{min(missing)} is not in it")


def read_zipped(zipped: zipfile.ZipFile, name: str) -> bytes:
  """Returns a member of an open zip; nothing is written."""
  with zipped.open(name) as file:
    return LimitedFile(file, MAX_MEMBER).read()


def read_file(archive: Archive, path: pathlib.Path) -> bytes:
  """Returns a file that is not packed."""
  with reading(archive, path), open(path, "rb") as file:
    return LimitedFile(file, MAX_MEMBER).read()


def in_seeded_order(names: Iterable[str], seed: str) -> list[str]:
  """Returns names in a random order that is the same on any machine.

  The names are sorted by the SHA-256 of "seed/name".
  """
  return sorted(
    names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()
  )


def _check(archive: Archive, path: pathlib.Path) -> None:
  if archive.sha256 is None:
    return
  if archive.name.endswith(".gz") and not archive.name.endswith(".tar.gz"):
    digest = hashlib.sha256(unpack_gzip(archive, path)).hexdigest()
  else:
    size = path.stat().st_size
    if archive.size and size < archive.size:
      raise UserError(
        f"archive {path} is cut short, {size} of {archive.size} bytes;"
        f" {remedy(archive)}"
      )
    with reading(archive, path), open(path, "rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
  if digest != archive.sha256:
    raise UserError(
      f"archive {path} has another content than the published"
      f" {archive.name} (its SHA-256 differs); {remedy(archive)}"
    )
