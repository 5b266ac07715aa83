"""The command: errors in one sentence before any training, and real runs from the shell to the report."""

import os
import re
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from helpers.processes.forked import forked
from synaptic_pruning.__main__ import main
from synaptic_pruning.study.forecasting.results import COLUMNS
from synaptic_pruning.tasks.forecasting import DATASETS, SHIPPED, embedded

COMMAND = [sys.executable, "-m", "synaptic_pruning"]
QUICK = ["--models", "rnn", "--lengths", "3", "--seeds", "1", "--epochs", "2", "--jobs", "2"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}


def forked_command(folder: Path, *words: object, without: str = "") -> subprocess.CompletedProcess:
    """The command in a fork of this process, and without one of the modules that have been imported."""

    def command() -> None:
        if without:
            for name in [name for name in sys.modules if name.startswith("synaptic_pruning.cli")]:
                del sys.modules[name]
            sys.modules[without] = None
        sys.argv = ["synaptic-pruning", *map(str, words)]
        main()

    return forked(command, folder)


def synaptic_pruning(*words: object, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT, **options)


@pytest.fixture
def csv(tmp_path):
    """A day-by-day wave with a weekly season and a second channel."""
    days = pd.date_range("2024-01-01", periods=120, freq="D")
    wave = np.sin(np.arange(120) * 2 * np.pi / 7) + np.random.default_rng(0).normal(0, 0.1, 120)
    path = tmp_path / "wave.csv"
    pd.DataFrame({"day": days, "y": wave, "x": wave[::-1]}).to_csv(path, index=False)
    return path


def refused(result, *fragments, code=2):
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for fragment in fragments:
        assert fragment in result.stderr
    return result.stderr.strip()


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--arms", "none,dropuot"], ["--arms", "'dropuot'", "none, dropout, mc-dropout, locked-dropout, synaptic"]),
        (["--models", "gru"], ["--models", "'gru'", "rnn, lstm, patchtst"]),
        (["--models", ","], ["--models", "empty"]),
        (["--lengths", "7,x"], ["--lengths", "'x'"]),
        (["--lengths", "0"], ["--lengths", "'0'"]),
        (["--target", "y"], ["--target", "CSV"]),
        (["absent.csv", "--target", "y"], ["absent.csv"]),
        (["--task", "classification"], ["--task", "synaptic-pruning compare-images"]),
        (["--task=classification", "--data", "mnist"], ["--task", "synaptic-pruning compare-images"]),
        (["--data", "mnist"], ["--data", "synaptic-pruning compare-images"]),
        (["--data-dir", "here"], ["--data-dir", "synaptic-pruning compare-images"]),
    ],
)
def test_bad_options_are_refused_in_one_sentence(tmp_path, words, fragments):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    result = CliRunner().invoke(app, ["compare", "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.parametrize(
    ("content", "words", "fragment"),
    [
        (None, ["--target", "z"], "z"),
        (None, [], "--target"),
        (None, ["--target", "y", "--lengths", "200"], "too short"),
        ("", ["--target", "y"], "wave.csv"),
        ("y\n1\n", ["--target", "y"], "row"),
        ("y\n" + "3\n" * 50, ["--target", "y"], "constant"),
        ("y\n" + "3\n4\n" * 30 + "five\n", ["--target", "y"], "five"),
        (None, ["--target", "y", "--time", "when"], "when"),
    ],
)
def test_bad_data_are_refused_in_one_sentence_before_training(csv, tmp_path, content, words, fragment):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    if content is not None:
        csv.write_text(content)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["compare", str(csv), "--out", str(out), *words])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert fragment in result.stderr
    assert not list(out.rglob("*.json"))


GERMAN = "day;sold\n" + "".join(
    f"{day:%d.%m.%Y};{f'{1500 + 700 * np.sin(n):,.0f}'.replace(',', '.')}\n"
    for n, day in enumerate(pd.date_range("2024-01-01", periods=60))
)


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--decimal", ","], ["'1.500' in row 2", "is 1500 or 1.500", "--thousands='.'", "--decimal='.'"]),
        ([], ["'1.500' in row 2", "--thousands='.'", "--decimal='.'"]),
        (["--thousands", "."], ["'.' between thousands in sold; UTF-8.", "too short"]),
        (["--thousands", ".", "--date-format", "%d/%m/%Y"], ["'01.01.2024' in row 2", "--date-format='%d/%m/%Y'"]),
        (["--thousands", ".", "--decimal", "."], ["--thousands='.' and --decimal='.' are the same mark"]),
    ],
)
def test_german_numbers_are_refused_with_the_option_that_reads_them(csv, tmp_path, words, fragments):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    assert "\n05.01.2024;970\n" in GERMAN
    csv.write_text(GERMAN)
    command = ["compare", str(csv), "--target", "sold", "--separator", ";", "--lengths", "1000"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.output


def test_a_refusal_has_no_traceback(csv, tmp_path):
    file = tmp_path / "file"
    file.touch()
    result = forked_command(tmp_path, "compare", csv, "--target", "y", "--out", file / "below")
    assert len(refused(result, "--out", "cannot write").splitlines()) == 1


def test_without_the_extra_it_names_the_extra(tmp_path):
    result = forked_command(tmp_path, "compare", without="typer")
    assert len(refused(result, "'typer'", "synaptic-pruning[study]").splitlines()) == 1


@pytest.mark.parametrize(("bad", "code"), [(1, 0), (4, 2)])
def test_failed_runs_are_told_and_no_run_at_all_is_an_error(tmp_path, monkeypatch, bad, code):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    table = pd.DataFrame({"arm": ["none", "dropout", "mc-dropout", "synaptic"], "status": "ok"})
    table = table.assign(dataset="d", model="rnn", length=7, horizon=1, seed=0, mae=1.0, sparsity=0.0)
    table = table.assign(prunable=10, alive=10, best_epoch=1, most_epochs=2)
    table.loc[: bad - 1, "status"] = "nan-loss: lower the learning rate."
    monkeypatch.setattr("synaptic_pruning.study.forecasting.compare.compare_series", lambda *_, **__: table)
    result = CliRunner().invoke(app, ["compare", "--out", str(tmp_path)])
    assert result.exit_code == code
    assert result.stderr.strip() == f"{bad} of 4 runs failed; the first: nan-loss: lower the learning rate."


@pytest.mark.usefixtures("undrawn")
def test_from_a_csv_to_the_report_and_again(csv, tmp_path, monkeypatch):
    exported = "synaptic_pruning.study.forecasting.compare.exported"
    monkeypatch.setattr(exported, lambda *_: [])  # has a test of its own, and takes seconds
    out = tmp_path / "out"
    words = ["compare", csv, "--target", "y", "--time", "day", "--out", out, *QUICK]
    result = forked_command(tmp_path, *words)  # make test-slow runs the command itself
    assert result.returncode == 0, result.stderr
    assert "Against “dropout”, synaptic pruning's mean test error (MAE) on wave is" in result.stdout
    table = pd.read_csv(out / "results.csv")
    assert list(table.columns) == COLUMNS
    beside = table[table["model"].isna()]
    assert list(beside["arm"]) == ["persistence", "seasonal naive", "ridge"]
    assert beside["mae"].between(0, 2).all()
    options = pd.read_csv(out / "options.csv")
    assert options.groupby(["option", "algorithm"], dropna=False).ngroups == 3 * 3  # none, dropout, pruned; three rates
    table = table[table["model"].notna()]
    assert list(table["arm"]) == ["none", "dropout", "mc-dropout", "synaptic"]
    assert (table["status"] == "ok").all()
    assert table["mae"].between(0, 2).all()
    by_arm = table.set_index("arm")
    assert by_arm.loc["synaptic", "sparsity"] == pytest.approx(0.8, abs=0.001)
    assert by_arm.loc["synaptic", "alive"] == round(0.2 * by_arm.loc["synaptic", "prunable"])
    assert by_arm.loc["none", "sparsity"] == 0
    assert by_arm.loc["dropout", "train_seconds"] == by_arm.loc["mc-dropout", "train_seconds"]
    assert by_arm.loc["dropout", "mae"] != by_arm.loc["mc-dropout", "mae"]  # the passes really differ
    networks = {path.stem.split("-", 2)[-1]: load_file(path) for path in (out / "networks").iterdir()}
    best = by_arm["validation_mae"].idxmin()
    assert set(networks) == {best, "synaptic"}
    zeros = int(sum((tensor == 0).sum() for tensor in networks["synaptic"].values() if tensor.dim() > 1))
    assert zeros == by_arm.loc["synaptic", "prunable"] - by_arm.loc["synaptic", "alive"]
    html = (out / "report.html").read_text()
    command = re.search(r"synaptic-pruning compare [^<]*", html).group()
    assert "--target y --time day" in command
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("Read: ")]
    reading = (
        "wave.csv: 120 rows; times from 'day': dates as YYYY-MM-DD; target 'y'; inputs x; no value missing; "
        "',' between cells; decimal mark '.'; no mark between thousands; UTF-8"
    )
    # 70 % of the rows and the next 10 % are 84 and 12 of 120.
    split = "trained until 2024-03-24, validated until 2024-04-05, tested until 2024-04-29"
    assert line == f"Read: {reading}; {split}."
    assert f"As read: {reading}." in unescape(html)

    stamps = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert forked_command(tmp_path, *words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == stamps
    assert (out / "report.html").read_text() == html


def planned(monkeypatch, *words):
    """The series, the plan and the command line of a comparison that is not run, and what was said."""
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    found = []

    def compare_series(series, plan, out, *, executor, about):
        found.append((series, plan, about.command))
        raise KeyboardInterrupt

    monkeypatch.setattr("synaptic_pruning.study.forecasting.compare.compare_series", compare_series)
    result = CliRunner().invoke(app, ["compare", *map(str, words)])
    assert result.exit_code == 130, result.stderr
    return *found[0], result.output.splitlines()


def test_several_files_and_data_sets_by_name(csv, tmp_path, monkeypatch):
    twin, sets = tmp_path / "twin.parquet", tmp_path / "data"
    pd.read_csv(csv, parse_dates=["day"])[:100].to_parquet(twin, index=False)
    monkeypatch.setenv("SYNAPTIC_PRUNING_DATA", str(sets))
    entry = DATASETS["etth1"]
    monkeypatch.setattr("synaptic_pruning.tasks.forecasting.load", lambda name, inputs: embedded()[1])
    series, _, command, said = planned(monkeypatch, csv, twin, entry.name, "--target", "y", "--out", tmp_path / "out")
    assert [one.name for one in series] == ["wave", "twin", "sunspots"]
    assert series[0].columns == series[1].columns == ("y", "x")
    assert [line.partition(" rows")[0] for line in said[:3]] == [
        "Read: wave.csv: 120",
        "Read: twin.parquet: 100",
        "Read: sunspots: 309",
    ]
    assert said[2].endswith("trained until 1915, validated until 1946, tested until 2008.")
    assert command.startswith(f"synaptic-pruning compare {csv} {twin} etth1 --out")
    assert "--gaps error" in command


def test_a_short_series_is_warned_of(csv, tmp_path, monkeypatch):
    short = tmp_path / "short.csv"
    pd.read_csv(csv)[:25].to_csv(short, index=False)
    *_, said = planned(monkeypatch, short, "--target", "y", "--lengths", "3", "--out", tmp_path / "out")
    assert said[0].endswith("tested until 2024-01-25.")
    assert said[1].startswith("Warning: the test part of short has 5 windows")


def test_inputs_calendar_and_columns_known_ahead(csv, tmp_path, monkeypatch):
    words = [csv, "--target", "y", "--out", tmp_path / "out"]
    (alone,), _, command, _ = planned(monkeypatch, *words, "--inputs", "")
    assert alone.columns == ("y",)
    assert "--inputs '' --models" in command
    (many,), plan, command, _ = planned(monkeypatch, *words, "--known", "x", "--calendar", "--horizon", "2")
    assert many.columns == ("y", "x, 2 ahead", "weekday sine", "weekday cosine")
    raw = pd.read_csv(csv)
    np.testing.assert_array_equal(many.values[:-2, 1], raw["x"][2:])
    assert plan.horizons == (2,)
    assert "--known x --calendar --models" in command


def test_quick_changes_what_is_not_typed(csv, tmp_path, monkeypatch):
    words = [csv, "--target", "y", "--out", tmp_path / "out", "--quick"]
    _, plan, command, _ = planned(monkeypatch, *words, "--epochs", "4")
    assert (plan.models, plan.lengths, plan.seeds, plan.epochs) == (("rnn",), (7,), 1, 4)
    assert "--models rnn" in command
    assert "--quick" not in command


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["wave.csv", "wave.csv", "--target", "y"], "2 data sets are called 'wave'; rename a file or an id."),
        (["etth3"], "data set 'etth3' is unknown; did you mean"),
        (["wave.csv"], "--target is missing and names no column of wave.csv to forecast; it has day, y, x."),
        (["wave.csv", "--target", "y", "--encoding", "utf-9"], "--encoding='utf-9' is unknown"),
        (["wave.csv", "--target", "y", "--known", "y"], "--known='y' is no input of series 'wave'; its inputs are: x."),
        (["--calendar"], "series 'eeg-eye-state-mini' has no dates, or too few"),
        (["--inputs", "x"], "--inputs names columns of a CSV or Parquet file"),
    ],
)
def test_more_data_that_are_refused(csv, tmp_path, monkeypatch, words, fragment):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    monkeypatch.chdir(csv.parent)
    result = CliRunner().invoke(app, ["compare", "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert fragment in result.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_runs_that_were_best_in_their_last_epoch_are_warned_of(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from synaptic_pruning.cli import app

    table = pd.DataFrame({"arm": ["none", "dropout", "mc-dropout", "synaptic"], "status": "ok"})
    table = table.assign(dataset="d", model="rnn", length=7, horizon=1, seed=0, mae=1.0, sparsity=0.0)
    table = table.assign(prunable=10, alive=10, regime="multivariate", best_epoch=[3, 2, 3, 1], most_epochs=3)
    monkeypatch.setattr("synaptic_pruning.study.forecasting.compare.compare_series", lambda *_, **__: table)
    result = CliRunner().invoke(app, ["compare", "--out", str(tmp_path)])
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: 2 of 4 runs were best in their last epoch; give more --epochs")


def test_help_shows_defaults_names_and_the_number_of_options_and_needs_no_pytorch():
    probe = "import sys; sys.argv = ['synaptic-pruning', 'compare', '--help']\n"
    probe += "from synaptic_pruning.__main__ import main\ntry: main()\n"
    probe += "except SystemExit: print('torch' in sys.modules, 'pandas' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    text = " ".join(result.stdout.split())
    for shown in (
        "[default: rnn,lstm,patchtst]",
        "[default: none,dropout,mc-dropout,synaptic]",
        "[default: 7,30]",
        "[default: 30; x>=1]",
        "Each arm tries 3 options",
    ):
        assert shown in text
    assert text.endswith("False False")


@pytest.mark.slow
def test_ctrl_c_then_the_same_command(csv, tmp_path):
    out = tmp_path / "out"
    words = [*map(str, ["compare", csv, "--target", "y", "--out", out, *QUICK]), "--seeds", "6", "--epochs", "20"]
    process = subprocess.Popen(
        [*COMMAND, *words],
        env=ENVIRONMENT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while len(list(out.glob("cells/*.json"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in stderr
    assert "Traceback" not in stderr
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*.json")}
    assert len(kept) < 18
    assert synaptic_pruning(*words, timeout=300).returncode == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    whole = tmp_path / "whole"
    words[words.index(str(out))] = str(whole)
    assert synaptic_pruning(*words, timeout=300).returncode == 0
    measured = ["train_seconds", "predict_seconds", "peak_memory_mb"]
    one, other = (pd.read_parquet(folder / "results.parquet").drop(columns=measured) for folder in (out, whole))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
def test_the_command_of_make_compare_reaches_a_verdict_over_all_series(tmp_path):
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    words = re.search(r"synaptic-pruning (compare .*) --out", makefile).group(1).split()
    words[words.index("--epochs") + 1] = "2"
    result = synaptic_pruning(*words, "--out", tmp_path, timeout=600)
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(tmp_path / "results.parquet")
    assert set(table["dataset"]) == set(SHIPPED)
    assert len(table) == len(SHIPPED) * (3 + 3)  # arms and baselines
    assert (table["status"] == "ok").all()
    assert "bootstrap interval" in result.stdout
    assert "no outcome can be significant" not in result.stdout
    page = (tmp_path / "report.html").read_text()
    assert 'data = [load(cell["dataset"], inputs="all")]' in unescape(page)


@pytest.mark.slow
def test_air_quality_with_its_semicolons_commas_and_marks(tmp_path):
    shared = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[2] / ".." / "shared"))
    data = shared / "data" / "AirQualityUCI.csv"
    if not data.exists():
        pytest.skip(f"{data.name} is absent")
    words = ["compare", data, "--target", "CO(GT)", "--time", "Date,Time", "--separator", ";", "--decimal", ","]
    result = synaptic_pruning(*words, "--missing", "-200", "--out", tmp_path, *QUICK, timeout=600)
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(tmp_path / "results.parquet")
    assert (table["status"] == "ok").all()
    assert table["mae"].between(0.05, 2).all()
