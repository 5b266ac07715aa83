"""The README runs as it is written, and stays short."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in a copy of what git knows of, so that nothing else can slip in."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(Path.is_file, (ROOT / name for name in names.stdout.decode().splitlines())):
        copy = folder / "tree" / name.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(folder / "tree")], check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow  # the build backend is installed for it
def test_a_package_index_gets_no_link_into_the_tree(wheel: Path):
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        shown = files.read(name).decode()
    assert not re.findall(r"\]\((?!https?:)", shown)
    assert "More rules, and where each loses: docs/rules.md." in shown
    assert "training.svg" not in shown


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_the_series_with_their_sources(wheel: Path):
    package = ROOT / "src" / "synaptic_pruning"
    with zipfile.ZipFile(wheel) as files:
        packed = {name for name in files.namelist() if ".dist-info/" not in name}
        for name in (name for name in packed if name.endswith(".csv.gz")):
            assert files.read(name) == (ROOT / "src" / name).read_bytes()
    here = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
    assert packed == {name for name in here if "__pycache__" not in name}
    assert len([name for name in packed if name.endswith("-mini.csv.gz")]) == 12
    assert any(name.endswith("series/ATTRIBUTION.md") for name in packed)


@pytest.fixture
def from_wheel(wheel: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """What runs Python in an empty folder, with the wheel and nothing of this tree on its path."""
    place, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(place)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [sys.executable, *words], cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran

    where = run("-c", "import synaptic_pruning; print(synaptic_pruning.__file__)").stdout
    assert Path(where.strip()).is_relative_to(place)
    return run


COMMANDS = [line for _, code in BLOCKS for line in code.splitlines() if line.startswith("synaptic-pruning ")]


def write_load(folder: Path) -> None:
    hours = np.arange(300)
    times = pd.date_range("2024-01-01", periods=len(hours), freq="h")
    load = 50 + 20 * np.sin(hours * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=len(hours))
    pd.DataFrame({"timestamp": times, "load": load}).to_csv(folder / "data.csv", index=False)


@pytest.mark.slow
def test_every_block_runs_from_a_wheel_in_an_empty_folder(
    from_wheel: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
):
    (shown,) = (code for language, code in BLOCKS if language == "text")
    assert same_but_for_rounding(shown, from_wheel("-c", QUICKSTART).stdout)
    from_wheel("-c", QUICKSTART + EXPORT)
    write_load(tmp_path / "empty")
    for line in COMMANDS:
        from_wheel("-m", "synaptic_pruning", *shlex.split(line)[1:])
    from_wheel("-m", "synaptic_pruning", "compare", "us-gasoline-mini", "--quick", "--epochs", "2", "--out", "named")
    assert len(COMMANDS) == 3
    assert (tmp_path / "empty" / "comparison" / "report.html").exists()
    assert len(pd.read_csv(tmp_path / "empty" / "next.csv")) == 1
    made = {path.name for path in (tmp_path / "empty").iterdir()}
    assert made >= {"net.safetensors", "net.c", "comparison", "model", "next.csv", "named"}
