"""The documentation site: every public name has its place, pages run as they are written, a broken link is an error."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import synaptic_pruning as sp
from helpers.shown_output import run_page, same_but_for_rounding

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LESSONS = sorted(path for path in (DOCS / "learn").glob("*.md") if "```python" in path.read_text())
NAMES = [
    name for page in (DOCS / "reference").glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
]


def _public(file: Path) -> set[str]:
    """The names that a file defines for others."""
    defined = (ast.FunctionDef, ast.ClassDef)
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, defined) and not node.name.startswith("_")
    }


def _object(name: str) -> object:
    """A function may bear the name of its file, so the file is asked for by its import."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_every_public_name_is_in_the_reference_once():
    objects = [_object(name) for name in NAMES if ".integrations." not in name]
    faces = [getattr(sp, name) for name in sp.__all__ if name not in ("export", "plot")]
    faces += [getattr(sp.export, name) for name in sp.export.__all__]
    assert sorted(map(id, objects)) == sorted(map(id, faces))


@pytest.mark.parametrize("host", ["lightning", "transformers", "plot"])
def test_every_name_of_an_integration_is_in_the_reference(host: str):
    """Read and not imported: the frameworks take seconds."""
    start = f"synaptic_pruning.integrations.{host}."
    assert {name.removeprefix(start) for name in NAMES if name.startswith(start)} == _public(
        ROOT / "src" / "synaptic_pruning" / "integrations" / f"{host}.py"
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_prints_what_it_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if page.stem == "prune-and-deploy" and not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        pairs = run_page(page.read_text())
    assert pairs
    for shown, printed in pairs:
        assert same_but_for_rounding(shown, printed), printed


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("total 1,088  218  80.0 %\n", "total  1,088 218 79.9 %", True),
        ("total 218", "total 260", False),
        ("error 0.9", "error 1.2", False),
        ("the same: True", "the same: False", False),
        ("a 1", "a 1 b 2", False),
    ],
)
def test_rounding_is_forgiven_and_nothing_else(shown: str, printed: str, same: bool):
    assert same_but_for_rounding(shown, printed) is same


@pytest.mark.parametrize("page", sorted((DOCS / "guides").rglob("*.md")), ids=lambda path: path.stem)
def test_the_code_of_a_guide_is_python(page: Path):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M):
        ast.parse(block)


def _build(root: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(to)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=quiet, check=False)


@pytest.mark.slow
def test_the_site_is_built_and_a_broken_link_or_name_ends_it(tmp_path: Path):
    pytest.importorskip("mkdocs")
    whole = _build(ROOT, tmp_path / "site")
    assert whole.returncode == 0, whole.stderr
    page = (tmp_path / "site" / "reference" / "pruner.html").read_text()
    assert 'id="synaptic_pruning.SynapticPruner.summary"' in page
    assert (tmp_path / "site" / "learn" / "training.svg").exists()
    # A function that bears the name of its file is easily taken for the file.
    pages = [file.read_text() for file in (tmp_path / "site" / "reference").glob("*.html")]
    assert re.findall(r'class="doc doc-object doc-module">.*?id="([^"]+)"', "".join(pages), re.S) == [
        "synaptic_pruning.scores"
    ]

    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (".ci", "docs", "src", "tests", "examples", "experiments", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    for spoilt, text in (
        ("learn/concepts.md", "[gone](nowhere.md)"),
        ("learn/concepts.md", "[gone](../../src/nowhere.py)"),
        ("learn/concepts.md", "[gone](getting-started.md#nowhere)"),
        ("reference/pruner.md", "::: synaptic_pruning.Nowhere"),
    ):
        plain = (copy / "docs" / spoilt).read_text()
        (copy / "docs" / spoilt).write_text(f"{plain}\n{text}\n")
        assert _build(copy, tmp_path / "spoilt").returncode != 0, text
        (copy / "docs" / spoilt).write_text(plain)
    assert _build(copy, tmp_path / "spoilt").returncode == 0
