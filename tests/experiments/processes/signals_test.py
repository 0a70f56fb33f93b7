import os
import signal
from unittest import mock

from absl.testing import parameterized

from experiments.processes import outputs
from experiments.processes import signals

_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def send(number):
  os.kill(os.getpid(), number)


class SignalsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(outputs, "write_error"))
    handlers = [signal.getsignal(number) for number in _ALL]
    self.addCleanup(
      lambda: self.assertEqual(
        [signal.getsignal(number) for number in _ALL], handlers
      )
    )

  @parameterized.parameters(*_ALL)
  def test_what_is_inside_a_request_goes_on(self, number):
    called = []
    with signals.stop_request(
      "stopping", on_signal=lambda: called.append(1)
    ) as stop:
      self.assertIsNone(stop.name)
      send(number)
      self.assertEqual(stop.name, number.name)
      if number != signal.SIGINT:
        send(number)
      self.assertNotEmpty(called)
    outputs.write_error.assert_called_once_with(f"{number.name}: stopping\n")

  def test_another_ctrl_c_interrupts(self):
    with self.assertRaises(signals.Interrupt) as raised:
      with signals.stop_request() as stop:
        send(signal.SIGTERM)
        self.assertEqual(stop.name, "SIGTERM")
        send(signal.SIGINT)
    self.assertEqual(raised.exception.name, "SIGINT")

  @parameterized.parameters(*_ALL)
  def test_at_once_only_the_first_interrupts(self, number):
    cleaned = False
    with signals.stop_request() as stop:
      stop.at_once = True
      with self.assertRaises(signals.Interrupt):
        try:
          send(number)
          self.fail("still here")
        finally:
          # What a closed terminal sends after SIGHUP, say.
          send(signal.SIGTERM)
          send(signal.SIGHUP)
          cleaned = True
    self.assertTrue(cleaned)

  def test_a_request_that_is_put_off_waits_for_the_code_inside(self):
    with signals.stop_request(at_once=True) as stop:
      with stop.put_off():
        send(signal.SIGTERM)
        self.assertEqual(stop.name, "SIGTERM")
      with self.assertRaises(signals.Interrupt):
        send(signal.SIGTERM)

  def test_after_an_error_it_still_waits(self):
    with signals.stop_request(at_once=True) as stop:
      with self.assertRaises(KeyError):
        with stop.put_off():
          raise KeyError
      send(signal.SIGTERM)  # while what the error leaves is cleaned up
    self.assertEqual(stop.name, "SIGTERM")

  @parameterized.parameters(*_ALL)
  def test_elsewhere_the_first_interrupts(self, number):
    cleaned = False
    with self.assertRaises(signals.Interrupt) as raised:
      with signals.interrupting():
        try:
          send(number)
          self.fail("still here")
        finally:
          send(signal.SIGTERM)
          send(signal.SIGHUP)
          cleaned = True
    self.assertTrue(cleaned)
    self.assertEqual(raised.exception.name, number.name)

  def test_cleaning_up_comes_first(self):
    cleaned = False
    with signals.interrupting():
      with self.assertRaises(signals.Interrupt):
        with signals.postponed():
          send(signal.SIGINT)
          send(signal.SIGINT)
          cleaned = True
        self.fail("still here")
    self.assertTrue(cleaned)

  def test_sighup_stays_ignored_where_it_is(self):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    self.addCleanup(signal.signal, signal.SIGHUP, before)
    with signals.stop_request() as stop, signals.interrupting():
      send(signal.SIGHUP)
    self.assertIsNone(stop.name)
    signal.signal(signal.SIGHUP, before)

  def test_output_that_nobody_reads(self):
    reading, writing = os.pipe()
    stream = outputs.tolerant(writing)
    self.enter_context(mock.patch("sys.stdout", stream))
    with (
      signals.stop_request(or_unread=True) as stop,
      signals.stop_request() as other,
    ):
      print("one", flush=True)
      self.assertIsNone(stop.name)
      os.close(reading)
      print("two", flush=True)
      self.assertRegex(stop.name, "output")
      self.assertIsNone(other.name)
    os.close(writing)
