"""The commands `datasets list`, `info` and `fetch`, through the program's own parser."""

import functools
import hashlib
import http.server
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synaptic_pruning import tasks
from synaptic_pruning.cli import app
from synaptic_pruning.tasks.forecasting import DATASETS, SHIPPED

TEXT = b"index,y\n0,1\n1,2\n2,4\n"


def synaptic_pruning(*words: object, columns: int = 120):
    return CliRunner().invoke(app, ["datasets", *map(str, words)], env={"COLUMNS": str(columns)})


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def three(tmp_path):
    """Two data sets with an address, the second a dead one, and one without."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "first.csv").write_bytes(TEXT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{{}}.csv"
        made = {
            name: replace(
                DATASETS["heart-rate"],
                name=name,
                file=f"{name}.csv",
                url=url.format(name),
                bytes=len(TEXT),
                sha256=hashlib.sha256(TEXT).hexdigest(),
                rows=3,
            )
            for name in ("first", "second", "third")
        }
        real = dict(DATASETS)
        DATASETS.clear()
        DATASETS.update(made)
        yield DATASETS
        DATASETS.clear()
        DATASETS.update(real)
        server.shutdown()


def test_list_names_every_data_set_and_where_it_is(tmp_path):
    (tmp_path / "AirQualityUCI.csv").touch()  # `list` looks, and leaves reading to those who need the file
    result = synaptic_pruning("list", "--data-dir", tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "rows", "frequency", "season", "where", "licence"]
    assert [line.split()[0] for line in lines[1:]] == list(DATASETS)
    rows = {line.split()[0]: re.split(r"\s{2,}", line.rstrip()) for line in lines[1:]}
    assert rows["air-quality"] == ["air-quality", "9,357", "hourly", "24", "local", "CC BY 4.0"]
    assert rows["etth1"][4] == "absent"


@pytest.mark.parametrize("columns", [80, 200])
def test_list_has_one_line_a_data_set_in_any_terminal(columns):
    lines = synaptic_pruning("list", columns=columns).stdout.splitlines()
    assert len(lines) == 1 + len(DATASETS)
    assert max(map(len, lines)) <= columns
    assert {line.split()[0] for line in lines[1:] if "shipped" in line} == {*SHIPPED}
    assert all("absent" in line for line in lines[1:] if "shipped" not in line)


def test_info_names_the_file_of_the_conversion():
    shown = dict(line.split(maxsplit=1) for line in synaptic_pruning("info", "bike-sharing-dc").stdout.splitlines())
    path = shown["converted"].split()[-1]
    assert (Path(tasks.__file__).parents[1] / path).is_file()
    assert "converted" not in synaptic_pruning("info", "air-quality").stdout


def test_info_shows_every_field_that_is_set(cache):
    shown = dict(line.split(maxsplit=1) for line in synaptic_pruning("info", "air-quality").stdout.splitlines())
    entry = DATASETS["air-quality"]
    assert {key: shown[key] for key in ("name", "licence", "url", "target", "block", "sha256")} == {
        key: getattr(entry, key) for key in ("name", "licence", "url", "target", "block", "sha256")
    }
    assert (shown["bytes"], shown["missing"], shown["where"]) == ("785,065", "'-200'", "absent")
    assert "pivot" not in shown
    cache.mkdir()
    (cache / "AirQualityUCI.csv").touch()
    assert f"cached: {cache / 'AirQualityUCI.csv'}" in synaptic_pruning("info", "air-quality").stdout


def test_fetch_says_where_the_file_is(three, cache):
    for _ in range(2):
        result = synaptic_pruning("fetch", "first")
        assert (result.exit_code, result.stdout) == (0, f"first: {cache / 'first.csv'}\n")
        assert (cache / "first.csv").read_bytes() == TEXT


def test_fetch_goes_on_after_a_failure_and_tells_it(three, cache):
    for words in (["second", "third", "first"], ["--all"]):
        result = synaptic_pruning("fetch", *words)
        assert result.exit_code == 2
        assert result.stdout == f"first: {cache / 'first.csv'}\n"
        second, third = (line for line in result.stderr.splitlines() if line.strip())
        for name, line in (("second", second), ("third", third)):
            assert f"'{name}'" in line
            assert "answered 404" in line


def test_fetch_all_takes_every_one(three, cache):
    for name in ("second", "third"):
        three[name] = replace(three[name], url=three["first"].url)
    assert synaptic_pruning("fetch", "--all").exit_code == 0
    assert {path.name for path in cache.glob("*.csv")} == {"first.csv", "second.csv", "third.csv"}


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["info", "air-qualty"], ["'air-qualty'", "did you mean 'air-quality'"]),
        (["fetch", "etth1", "bitcoins"], ["'bitcoins'", "did you mean 'bitcoin'"]),
        (["fetch"], ["--all", "name the data sets"]),
        (["fetch", "etth1", "--all"], ["--all"]),
    ],
)
def test_refusals_come_before_any_work(words, fragments, cache):
    result = synaptic_pruning(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr
    assert not cache.exists()
