from unittest import mock

from absl.testing import parameterized
import chex
import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments.processes import hosts


class SeveralProcessesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(jax, "process_count", lambda: 2))
    self.enter_context(mock.patch.object(hosts, "_CHUNK", 64))

  def in_process(self, index, function, **collective):
    ((name, does),) = collective.items()
    with (
      mock.patch.object(jax, "process_index", lambda: index),
      mock.patch.object(multihost_utils, name, does),
    ):
      return function()

  def test_what_the_main_one_makes_goes_in_chunks(self):
    made = {"zero": np.float32(-0.0) * np.ones(3), "x": np.arange(100.0)}
    sent = []

    def send(x):
      self.assertLessEqual(x.nbytes, 64)
      sent.append(x.copy())
      return sent[-1]

    def receive(x):
      chunk = sent.pop(0)
      chex.assert_equal_shape([chunk, x])
      return chunk

    def from_main():
      return hosts.from_main(lambda: made)

    self.in_process(0, from_main, broadcast_one_to_all=send)
    self.assertGreater(len(sent), 13)
    got = self.in_process(1, from_main, broadcast_one_to_all=receive)
    self.assertEmpty(sent)
    chex.assert_trees_all_equal(got, made)
    self.assertTrue(np.signbit(got["zero"]).all())

  @parameterized.parameters((np.float64, (6, 5)), (bool, (8,)), (int, (0, 3)))
  def test_parts_come_together_in_chunks(self, dtype, shape):
    whole = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    parts = [
      self.in_process(i, lambda: hosts.own_part(whole), process_allgather=None)
      for i in range(2)
    ]
    chex.assert_shape(parts, (shape[0] // 2, *shape[1:]))
    sent = [[], []]
    for i, part in enumerate(parts):

      def send(x, i=i):
        self.assertLessEqual(2 * x.nbytes, 64)
        sent[i].append(x)
        return np.stack([x, x])

      self.in_process(
        i, lambda part=part: hosts.gather(part), process_allgather=send
      )
    chunks = iter(zip(*sent, strict=True))
    got = self.in_process(
      0,
      lambda: hosts.gather(parts[0]),
      process_allgather=lambda x: np.stack(next(chunks)),
    )
    self.assertEqual(got.dtype, whole.dtype)
    np.testing.assert_array_equal(got, whole)


class OneProcessTest(parameterized.TestCase):
  def test_needs_nobody(self):
    hosts.barrier("alone")
    self.assertTrue(hosts.is_main())
    self.assertTrue(hosts.any_process(True))
    self.assertFalse(hosts.any_process(False))
    self.assertEqual(hosts.from_main(lambda: b"made"), b"made")
    np.testing.assert_array_equal(
      hosts.gather(hosts.own_part(np.eye(3))), np.eye(3)
    )
