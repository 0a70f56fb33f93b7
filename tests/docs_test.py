"""The pages of the documentation are true: examples run, and links lead on."""

import pathlib
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adq_jax
from adq_jax import merge_codebook
from adq_jax import nearest_codes
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from experiments.configs import variant_table
from experiments.configs import variants
from experiments.runs import checkpoints
from experiments.study import contents
from tests.support import pages


class ExamplesTest(parameterized.TestCase):
  def test_codebooks(self):
    names = pages.run("docs/codebooks.md")
    self.assertEqual(names["total"].counts.sum(), 4 * 16 * 16)
    frozen, embedding = names["is_frozen"], names["embedding"]
    # The last example updates all of them; so see that both kinds exist.
    self.assertEqual(int(frozen.sum()), 100)
    moved = names["variables"]["codebook"]["embedding"] != embedding
    self.assertTrue(moved.any())
    self.assertTrue(jnp.isfinite(names["result"].loss))
    self.assertEqual(names["result"].metrics["nonfinite_points"], 0)
    np.testing.assert_array_equal(names["mask"][3], False)

  def test_index(self):
    names = pages.run("docs/index.md")
    self.assertEqual(names["codes"].shape, (8, 16, 16))
    np.testing.assert_array_equal(
      names["values"],
      names["quantizer"].apply(names["variables"], names["z"]).values,
    )

  def test_adding_a_quantizer(self):
    names = pages.run("docs/adding_a_quantizer.md")
    np.testing.assert_array_equal(
      names["codes"] - 1, np.round(np.tanh(names["z"]))
    )

  def test_architecture(self):
    names = pages.run("docs/architecture.md")
    self.assertLen(names["quantizer"].streams, 3)
    self.assertEqual(names["is_sent"].shape, (2, 4, 4))

  @pytest.mark.slow
  def test_quantizers(self):
    names = pages.run("docs/quantizers.md")
    self.assertEqual(names["codes"].book.shape, (8, 16, 16))
    self.assertEqual(names["values"].shape, names["z"].shape)
    self.assertTrue(jnp.isfinite(names["loss"]))
    self.assertEqual(names["tokens"].shape, (8, 16, 16, 4))
    self.assertTrue((np.diff(names["errors"]) < 0).all())
    self.assertEqual(names["levels"].max(), 7)
    self.assertEqual(names["signs"].shape, (8, 16, 16, 18))
    self.assertLess(names["index"].max(), 2**18)

  def test_training(self):
    """The model of a small run, in place of that of the quick start."""
    quantizer = VectorQuantizer(16, 8)
    model = VQVAE(quantizer, network="cnn", features=8, downsampling=2)
    given = jnp.zeros((1, 8, 8, 3))
    variables = model.init(jax.random.key(0), given)
    with mock.patch.object(
      checkpoints, "load_model", lambda workdir: (model, variables)
    ):
      names = pages.run("docs/training.md", {"images": given})
    self.assertEqual(names["codes"].shape, (1, 4, 4))
    self.assertEqual(names["images"].shape, given.shape)

  def test_scaling(self):
    # A smaller codebook takes little memory.
    names = pages.run("docs/scaling.md", changes={"2**24": "2**12"})
    shards, quantizer = names["shards"], names["quantizer"]
    num_devices = jax.device_count()
    chex.assert_shape(
      shards["embedding"], (num_devices, 2**12 // num_devices, 8)
    )
    self.assertEqual(shards["embedding"].sharding, names["over_devices"])
    z = jax.random.normal(jax.random.key(1), (num_devices, 5, 8))
    codes = jax.pmap(
      lambda shard, z: quantizer.apply({"codebook": shard}, z).codes, "devices"
    )(shards, z)
    codebook = merge_codebook(jax.device_get(shards))["embedding"]
    np.testing.assert_array_equal(
      codes.reshape(-1), nearest_codes(z.reshape(-1, 8), codebook)
    )


class EveryExampleTest(absltest.TestCase):
  def test_a_test_runs_every_page_with_examples(self):
    with_examples = {page for page in pages.PAGES if pages.examples(page)}
    tests = "".join(
      (pages.ROOT / "tests" / name).read_text()
      for name in ("docs_test.py", "readme_test.py")
    )
    run = set(re.findall(r'pages\.run\(\s*"(.*?)"', tests))
    self.assertEqual(run, with_examples)


class TablesTest(parameterized.TestCase):
  def test_the_table_of_variants_has_all_with_their_tables(self):
    _, rows = pages.PAGES["docs/training.md"].split(
      "| variant | what it is | in table |\n"
    )
    told = {}
    for row in rows.partition("\n\n")[0].splitlines()[1:]:
      names, _, tables = row.strip("|").split("|")
      for name in re.findall("`(.*?)`", names):
        self.assertNotIn(name, told)
        told[name] = [int(number) for number in re.findall(r"\d", tables)]
    listed = (*variant_table.VARIANTS, *variant_table.FAMILIES)
    expected = {name: [] for name in listed}
    for number, table in contents.TABLES.items():
      for name in {
        name if name in variant_table.VARIANTS else variants.family_of(name)[0]
        for name in table.rows
      }:
        expected[name].append(number)
    self.assertEqual(told, expected)

  def test_what_survives_is_shown_by_tests(self):
    table = pages.PAGES["docs/robustness.md"].split("## Events")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    self.assertGreater(len(rows), 20)
    for row in rows:
      self.assertRegex(row, r"`\w+_test\.py::\w+` \|$")


class WordsTest(parameterized.TestCase):
  """The glossary of docs/architecture.md is kept."""

  @parameterized.parameters(
    (r"\bSortedCodes\b", "codewords, for vectors"),
    (r"\bdead codes?\b", "dead codewords"),
    (r"\bchosen codewords?\b", "a codeword that a point is assigned to"),
    (r"\bdrawn codebooks?\b", "sampled"),
    (r"\bundamaged\b", "intact"),
    (r"\bwhole checkpoints?\b", "intact"),
    (r"\bvery bits\b", "to the bit"),
    (r"\bnobody's\b", "a subject that is a thing"),
    (r"\blanguage of its own\b", "what is meant"),
  )
  def test_a_replaced_word_is_not_used(self, pattern, use):
    texts = {
      path.relative_to(pages.ROOT): path.read_text()
      for folder in ("adq_jax", "benchmarks", "experiments", "tests")
      for path in pages.ROOT.glob(f"{folder}/**/*.py")
    }
    del texts[pathlib.Path("tests/docs_test.py")]
    texts |= pages.PAGES
    # The glossary names the words that it replaces.
    architecture = "docs/architecture.md"
    texts[architecture] = texts[architecture].partition("## Glossary")[0]
    found = [
      f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
      for name, text in texts.items()
      for match in re.finditer(pattern, text, re.I)
    ]
    self.assertEmpty(found, f"use {use}")

  def test_the_glossary_has_each_word_once(self):
    _, table = pages.PAGES["docs/architecture.md"].split("| word | meaning |")
    rows = re.findall(r"^\| ([^|]+) \|", table, re.M)
    words = [word for row in rows for word in row.split(", ")]
    self.assertGreater(len(words), 30)
    self.assertLen(set(words), len(words))

  @parameterized.parameters(*adq_jax.__all__)
  def test_a_page_tells_of_every_public_name(self, name):
    text = "".join(
      text for page, text in pages.PAGES.items() if "docs/api/" not in page
    )
    self.assertRegex(text, rf"\b{name}\b")

  @parameterized.parameters(*adq_jax.__all__)
  def test_the_reference_has_every_public_name(self, name):
    text = "".join(
      text for page, text in pages.PAGES.items() if "docs/api/" in page
    )
    self.assertRegex(text, rf"\.\. auto\w+:: (adq_jax\.)?{name}\n")


class LinksTest(parameterized.TestCase):
  @parameterized.parameters(*pages.PAGES)
  def test_relative_links_lead_to_files_and_headings(self, page):
    here = (pages.ROOT / page).parent
    for target in re.findall(r"\]\((?!https?:)([^)]*)\)", pages.PAGES[page]):
      name, _, anchor = target.partition("#")
      path = (here / name).resolve() if name else pages.ROOT / page
      self.assertTrue(path.exists(), target)
      if anchor:
        self.assertIn(anchor, pages.anchors(path.read_text()), target)

  @parameterized.parameters(*pages.PAGES)
  def test_files_named_exist(self, page):
    pattern = r"`((?:experiments|docs|examples|tests)/[^` ]*\.(?:py|md|ipynb))`"
    for name in re.findall(pattern, pages.PAGES[page]):
      self.assertTrue((pages.ROOT / name).exists(), name)

  @parameterized.parameters(*pages.PAGES)
  def test_tests_named_exist(self, page):
    named = re.findall(r"`(\w+_test\.py)::(\w+)`", pages.PAGES[page])
    for file, test in named:
      texts = [path.read_text() for path in pages.ROOT.glob(f"tests/**/{file}")]
      self.assertIn(f"def {test}(", "".join(texts), file)

  def test_anchors_are_those_of_github(self):
    text = (
      "# One two, three\n## A `b_c`: d-e\n```\n# none\n```\n## [x y](z)\n# X y"
    )
    self.assertEqual(
      pages.anchors(text), {"one-two-three", "a-b_c-d-e", "x-y", "x-y-1"}
    )

  def test_the_readme_links_every_page(self):
    links = set()
    # The pages of results, and of the reference, are linked by their first.
    for page in ("README.md", "results/README.md", "docs/index.md"):
      folder = pathlib.PurePath(page).parent
      for link in re.findall(r"\]\(([\w/]+\.md)", pages.PAGES[page]):
        links.add(str(folder / link))
    self.assertContainsSubset(set(pages.PAGES) - {"README.md"}, links)

  def test_the_findings_are_one_screen(self):
    _, _, rest = pages.PAGES["results/README.md"].partition("## Findings\n")
    findings, _, _ = rest.partition("\n## ")
    self.assertBetween(len(findings.splitlines()), 20, 60)
