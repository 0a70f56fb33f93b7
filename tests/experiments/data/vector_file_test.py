import pathlib

from absl.testing import parameterized
import numpy as np

from experiments.data import vector_file
from experiments.errors import UserError

VECTORS = np.array([[1.5, -2.0, 3.0], [0.0, 1e-30, 7.0]], np.float32)


def as_fvecs(vectors):
  dims = np.full((len(vectors), 1), vectors.shape[1], "<i4")
  return np.hstack([dims, vectors.astype("<f4").view("<i4")]).tobytes()


class VectorFileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_both_formats(self):
    np.save(self.root / "a.npy", VECTORS)
    (self.root / "a.fvecs").write_bytes(as_fvecs(VECTORS))
    for name in ("a.npy", "a.fvecs"):
      found = vector_file.read(self.root / name)
      self.assertEqual(found.dtype, np.float32)
      np.testing.assert_array_equal(found, VECTORS)
    np.save(self.root / "b.npy", np.arange(6).reshape(2, 3))
    found = vector_file.read(self.root / "b.npy")
    np.testing.assert_array_equal(found, [[0.0, 1, 2], [3, 4, 5]])

  @parameterized.parameters(
    (b"", "it is empty"),
    (as_fvecs(VECTORS) + b"\0", "33 bytes, no whole number of words"),
    (as_fvecs(VECTORS)[:-4], "has 7 words, .* vectors have 3 numbers"),
    (b"\0" * 12, "vectors have 0 numbers"),
    (as_fvecs(VECTORS[:, ::-1])[:16] + b"\2" + b"\0" * 15, "not all as wide"),
    (as_fvecs(VECTORS * np.nan), "vector 0 that are not finite"),
  )
  def test_broken_fvecs(self, content, message):
    path = self.root / "x.fvecs"
    path.write_bytes(content)
    with self.assertRaisesRegex(UserError, message):
      vector_file.read(path)

  def test_other_files(self):
    np.save(self.root / "flat.npy", np.zeros(3))
    np.save(self.root / "text.npy", np.array([["a"]]))
    np.save(self.root / "object.npy", np.array([[None]]), allow_pickle=True)
    with open(self.root / "archive.npy", "wb") as file:
      np.savez(file, VECTORS)
    np.save(self.root / "large.npy", np.array([[1.0], [1e39]]))
    for name, message in (
      ("archive.npy", "cannot be read .it is an archive of arrays"),
      ("large.npy", "vector 1 that are not finite in float32"),
      ("flat.npy", r"has an array float64 \[3\]; it must be numbers"),
      ("text.npy", r"has an array <U1 \[1, 1\]"),
      ("object.npy", "cannot be read .*; name a file of vectors"),
      ("none.npy", "none.npy cannot be read"),
      ("a.bvecs", "no .npy or .fvecs file"),
    ):
      with self.assertRaisesRegex(UserError, message):
        vector_file.read(self.root / name)
