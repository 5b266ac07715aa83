"""The README runs as it is written, and stays short."""

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import synaptic_pruning as sp
from helpers.shown_output import same_but_for_rounding

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M)
PROSE = re.sub(r"^```.*?^```|^#.*?$|^\|.*?$|^!\[.*?\)$", "\n", TEXT, flags=re.S | re.M)


def _sentences() -> list[str]:
    """Paragraphs and bullets, their links as words, cut where a sentence ends."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", PROSE)
    parts = re.split(r"\n\s*\n|\n- ", words)
    return [one for part in parts for one in re.split(r"(?<=[.?!:])\s", " ".join(part.split())) if one]


def test_it_is_short():
    lines = TEXT.splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 100
    sentences = _sentences()
    assert len(sentences) > 20
    for sentence in sentences:
        assert len(sentence.split()) <= 20, sentence
        assert len(re.findall(r"(?<![\w.-])\d[\d.,]*(?![\w-])", sentence)) <= 1, sentence


def test_no_figure_before_the_first_code():
    before = TEXT.partition("```")[0]
    assert not re.search(r"\d", before)


QUICKSTART, EXPORT = (code for language, code in BLOCKS if language == "python")


def test_the_quickstart_prints_what_is_shown(capsys: pytest.CaptureFixture[str]):
    assert len(QUICKSTART.splitlines()) == 15
    exec(QUICKSTART, {})
    (shown,) = (code for language, code in BLOCKS if language == "text")
    assert same_but_for_rounding(shown, capsys.readouterr().out)


@pytest.mark.slow  # kernels are compiled
def test_the_network_of_the_quickstart_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(QUICKSTART + EXPORT, {})
    assert (tmp_path / "net.safetensors").exists()
    assert (tmp_path / "net.c").exists()


@pytest.mark.parametrize("rule", re.findall(r"^\|[^|]*\| `(sp\.[^`]+)`", TEXT, re.M))
def test_every_rule_of_the_table_can_be_made(rule: str):
    assert isinstance(eval(rule, {"sp": sp}), sp.Rule)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^):]+)\)", TEXT))))
def test_every_link_leads_somewhere(link: str):
    assert (ROOT / link.partition("#")[0]).exists()


def test_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r"pip install '\.\[(\w+)\]'", TEXT)
    assert len(asked) == 2
    assert set(asked) <= set(extras)


def test_one_version_and_one_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == sp.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


@pytest.mark.slow  # the build backend is installed for it
def test_a_package_index_gets_no_link_into_the_tree(tmp_path: Path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        shown = files.read(name).decode()
    assert not re.findall(r"\]\((?!https?:)", shown)
    assert "More rules, and where each loses: docs/rules.md." in shown
    assert "training.svg" not in shown


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path: Path):
    hours = np.arange(300)
    times = pd.date_range("2024-01-01", periods=len(hours), freq="h")
    load = 50 + 20 * np.sin(hours * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=len(hours))
    pd.DataFrame({"timestamp": times, "load": load}).to_csv(tmp_path / "data.csv", index=False)
    lines = [line for _, code in BLOCKS for line in code.splitlines() if line.startswith("synaptic-pruning ")]
    assert len(lines) == 3
    for line in lines:
        command = [sys.executable, "-m", "synaptic_pruning", *shlex.split(line)[1:]]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "comparison" / "report.html").exists()
    assert len(pd.read_csv(tmp_path / "next.csv")) == 1
