import os
import signal
import tempfile
from unittest import mock

from absl.testing import parameterized

from experiments.processes import signals
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens import mapped as mapped_lib
from experiments.tokens import token_file
from tests.support import conversion
from tests.support import untrained

_MODES = {"encode": encoding, "decode": decoding}


class OutputPlaceTest(conversion.UntrainedCase):
  def test_nothing_is_overwritten(self):
    conversion.make_images(self.folder)
    self.file.write_text("mine")
    self.refused(
      "x.tokens exists already", encoding.encode, self.folder, self.file
    )
    self.assertEqual(self.file.read_text(), "mine")
    self.file.unlink()
    self.said(encoding.encode, self.folder, self.file)
    self.output.mkdir()
    self.refused("exists already", decoding.decode, self.file, self.output)

  @parameterized.parameters("encode", "decode")
  def test_a_place_that_cannot_be_written(self, mode):
    conversion.make_images(self.folder)
    self.said(encoding.encode, self.folder, self.file)
    source = self.folder if mode == "encode" else self.file
    denied = PermissionError(13, "Permission denied")
    self.enter_context(
      mock.patch.object(_MODES[mode], "load_state", side_effect=AssertionError)
    )

    def refused(message, output):
      self.refused(message, getattr(_MODES[mode], mode), source, output)

    other_place = "name another place with --output"
    refused(
      f"nowhere/x cannot be written .*nowhere is no directory.*{other_place}",
      self.root / "nowhere" / "x",
    )
    refused(
      f"x.tokens/y cannot be written .*x.tokens is no directory.*{other_place}",
      self.file / "y",
    )
    for name in ("x" * 256, "ü" * 128, "x/" * 3000 + "x"):
      refused(
        f"cannot be written .File name too l.*{other_place}", self.root / name
      )
    (self.root / "gone").symlink_to("nowhere")
    refused("gone exists already; name another", self.root / "gone")
    with mock.patch.object(tempfile, "mkdtemp", side_effect=denied):
      refused(
        f"x cannot be written .Permission.*{other_place}", self.root / "x"
      )

  def test_not_among_the_images(self):
    conversion.make_images(self.folder)
    (self.root / "link").symlink_to(self.folder / "below")
    for place in (self.folder, self.folder / "below", self.root / "link"):
      self.refused(
        "is in .*images, the folder of the images; name a place elsewhere",
        encoding.encode,
        self.folder,
        place / "x.tokens",
      )

  def test_names_as_long_as_names_may_be(self):
    conversion.make_images(self.folder)
    for name in ("x" * 255, "ü" * 127):
      self.file, self.output = self.root / name, self.root / f"y{name[1:]}"
      self.said(encoding.encode, self.folder, self.file)
      self.said(decoding.decode, self.file, self.output)
      self.assertLen(list(self.output.rglob("*.png")), 3)
    self.assertLen(list(self.root.iterdir()), 6)

  def test_what_is_there_is_in_nobodys_way(self):
    conversion.make_images(self.folder)
    mine = self.root / f"x.tokens.{os.getpid()}.tmp"
    mine.write_text("mine")
    self.said(encoding.encode, self.folder, self.file)
    self.assertEqual(mine.read_text(), "mine")

  def test_killed_in_between_it_leaves_no_file(self):
    conversion.make_images(self.folder)
    with mock.patch.object(
      token_file.Writer, "finish", side_effect=KeyboardInterrupt
    ):
      with self.assertRaises(KeyboardInterrupt):
        self.said(encoding.encode, self.folder, self.file)
    self.assertCountEqual(self.root.iterdir(), [self.folder, self.run_dir])

  @parameterized.product(
    number=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    mode=["encode", "decode"],
  )
  def test_a_signal_leaves_nothing_behind(self, number, mode):
    self.config = untrained.make_run(self.run_dir, untrained.ONE)
    conversion.make_images(self.folder)
    arguments = (self.folder, self.file)
    if mode == "decode":
      self.said(encoding.encode, *arguments)
      arguments = (self.file, self.output)
    before = sorted(self.root.rglob("*"))
    call = mapped_lib.Mapped.__call__

    def ask(*batch):
      self.assertNotEqual(sorted(self.root.rglob("*")), before)
      os.kill(os.getpid(), number)
      return call(*batch)

    with (
      mock.patch.object(mapped_lib.Mapped, "__call__", ask),
      self.assertRaises(signals.Interrupt) as raised,
      signals.interrupting(),
    ):
      self.said(getattr(_MODES[mode], mode), *arguments)
    self.assertEqual(raised.exception.name, number.name)
    self.assertEqual(sorted(self.root.rglob("*")), before)
