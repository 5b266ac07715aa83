"""From a file to a forecast by the commands alone: fit, new rows, forecast; and what is refused in one sentence."""

import io
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import synaptic_pruning.study.forecasting.compare  # noqa: F401  # takes seconds, so that forks must have it
from helpers.processes.forked import forked
from synaptic_pruning.__main__ import main
from synaptic_pruning.cli import app
from synaptic_pruning.export import read

QUICK = ["--quick", "--arms", "synaptic", "--epochs", "2", "--jobs", "2"]
BOTH = [*QUICK, "--arms", "none,synaptic"]


def command(folder, *words):
    """The command in a process of its own."""

    def run():
        sys.argv = ["synaptic-pruning", *map(str, words)]
        main()

    return forked(run, folder)


def table():
    generator = np.random.default_rng(0)
    hours = pd.date_range("2024-01-26", periods=170, freq="h")
    load = 1000 + 300 * np.sin(np.arange(170) * 2 * np.pi / 24) + 20 * generator.standard_normal(170)
    return pd.DataFrame({"when": hours, "load": load.round(1), "wind": generator.uniform(0, 9, 170).round(2)})


def german(frame, path):
    frame.to_csv(path, index=False, sep=";", decimal=",", date_format="%d.%m.%Y %H:%M")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with old.csv of 150 hours, the 26 last of 170 in new.csv, and the model of the old ones.

    The old file tells day from month. The new one, of the first two days of February, does not.
    """
    folder = tmp_path_factory.mktemp("fitted")
    german(table()[:150], folder / "old.csv")
    german(table()[144:], folder / "new.csv")
    words = ["--target", "load", "--separator", ";", "--decimal", ",", "--horizon", "3", "--out", folder / "model"]
    result = command(folder, "fit", folder / "old.csv", *words, *QUICK)
    assert result.returncode == 0, result.stderr
    (folder / "said.txt").write_text(result.stdout)
    return folder


def by_hand(model, rows):
    """The network in NumPy, from the stored scaler and the packed weights."""
    about, state = json.loads((model / "forecaster.json").read_text()), read(model / "weights.safetensors")
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}
    mean, scale = (np.array(about["scaling"][name]) for name in ("mean", "scale"))
    hidden = np.zeros(64)
    for row in (rows[about["data"]["columns"]].to_numpy()[-7:] - mean) / scale:
        before = weights["recurrent.weight_ih_l0"] @ row + weights["recurrent.weight_hh_l0"] @ hidden
        hidden = np.tanh(before + weights["recurrent.bias_ih_l0"] + weights["recurrent.bias_hh_l0"])
    output = weights["head.weight"] @ hidden + weights["head.bias"]
    return rows["load"].iloc[-1] + output * about["network"]["unit"] * scale[0]


def test_fit_then_new_rows_then_the_forecast_that_numpy_makes(fitted):
    result = command(fitted, "forecast", fitted / "model", fitted / "new.csv")
    assert result.returncode == 0, result.stderr
    found = pd.read_csv(io.StringIO(result.stdout), parse_dates=["time"])
    np.testing.assert_allclose(found["forecast"], by_hand(fitted / "model", table()[144:]), rtol=1e-5)
    assert list(found["time"]) == list(pd.date_range("2024-02-02 02:00", periods=3, freq="h"))
    about = json.loads((fitted / "model" / "forecaster.json").read_text())
    # The stored scaler is that of all old rows, not of the new ones.
    np.testing.assert_allclose(about["scaling"]["mean"], table()[["load", "wind"]][:150].mean())
    np.testing.assert_allclose(found["high"] - found["low"], 2 * np.array(about["intervals"]["half_widths"]))
    assert (found["high"] > found["low"]).all()
    assert f"they held {about['intervals']['coverage']:.0%} of the second" in result.stderr


def test_what_fit_says_and_leaves(fitted):
    said = (fitted / "said.txt").read_text().splitlines()
    assert said[0].startswith("Read: old.csv: 150 rows; times from 'when': dates, the day first")
    assert said[0].endswith(
        "trained until 2024-01-30 08:00:00, validated until 2024-01-30 23:00:00, tested until 2024-02-01 05:00:00."
    )
    assert said[1].startswith("Chosen of 1 by validation error: rnn, window 7, arm “synaptic”")
    assert sorted(path.name for path in (fitted / "model").iterdir()) == ["forecaster.json", "weights.safetensors"]


def test_files_and_picture(fitted, tmp_path):
    files = [tmp_path / name for name in ("f.csv", "f.parquet", "f.svg")]
    words = ["forecast", str(fitted / "model"), str(fitted / "new.csv"), *(f"--out={file}" for file in files)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    typed = pd.read_parquet(files[1])
    pd.testing.assert_frame_equal(pd.read_csv(files[0], parse_dates=["time"]), typed, check_dtype=False)
    texts = "".join(ET.parse(files[2]).getroot().itertext())
    assert "<svg" in files[2].read_text()
    assert texts.strip()


def test_rows_in_parquet_are_those_of_the_csv(fitted, tmp_path):
    table()[144:].to_parquet(tmp_path / "new.parquet", index=False)
    runs = [
        CliRunner().invoke(app, ["forecast", str(fitted / "model"), str(file)])
        for file in (fitted / "new.csv", tmp_path / "new.parquet")
    ]
    assert runs[0].exit_code == 0
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.slow
def test_fit_from_a_comparison_trains_what_it_found_best(fitted, tmp_path, undrawn):
    words = [fitted / "old.csv", "--target", "load", "--separator", ";", "--decimal", ","]
    compared = command(tmp_path, "compare", *words, "--horizon", "3", "--out", tmp_path / "run", *BOTH)
    assert compared.returncode == 0, compared.stderr
    result = command(tmp_path, "fit", *words, "--from", tmp_path / "run", "--out", tmp_path / "model")
    assert result.returncode == 0, result.stderr
    alone = command(tmp_path, "fit", *words, "--horizon", "3", "--out", tmp_path / "alone", *BOTH)
    assert alone.returncode == 0, alone.stderr
    one, other = (json.loads((tmp_path / name / "forecaster.json").read_text()) for name in ("model", "alone"))
    assert one == other  # the weights' digest included
    found = pd.read_parquet(tmp_path / "run" / "results.parquet")
    best = found[found["model"] != ""].set_index("arm")["validation_mae"].idxmin()
    assert one["chosen"]["arm"] == best
    refused = command(tmp_path, "fit", *words, "--from", tmp_path / "run", "--out", tmp_path / "no", "--epochs", "9")
    assert refused.returncode == 2
    assert "--epochs is settled by the comparison" in refused.stderr
    assert not (tmp_path / "no").exists()


def refused(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize(
    ("name", "change", "fragment"),
    [
        ("new.csv", lambda t: t.drop(columns="wind"), "column 'wind' is not in new.csv"),
        ("new.csv", lambda t: t.drop(columns="load"), "column 'load' is not in new.csv"),
        ("new.csv", lambda t: t[-6:], "has 6 rows to forecast from and the window takes 7; give more rows."),
        ("new.csv", lambda t: t[::2], "does not follow 2024-02-01 00:00:00 at the step of the forecaster, h"),
        ("new.csv", lambda t: t.drop(index=150), "lacks 1 timestamp(s)"),
        ("new.csv", lambda t: t.assign(load=np.nan), "no value of 'load'"),
        ("new.xlsx", lambda t: t, "new.xlsx is no"),
    ],
)
def test_rows_that_cannot_be_forecast(fitted, tmp_path, name, change, fragment):
    german(change(table()[144:]), tmp_path / name)
    if name.endswith("xlsx"):
        (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(100))
        fragment = "new.xlsx is a spreadsheet; save it as CSV"
    assert fragment in refused("forecast", fitted / "model", tmp_path / name)


def test_models_and_places_that_cannot_be(fitted, tmp_path):
    new = fitted / "new.csv"
    assert "give a folder that `fit` wrote" in refused("forecast", tmp_path, new)
    assert "absent.csv cannot be opened" in refused("forecast", fitted / "model", tmp_path / "absent.csv")
    assert "has no known ending" in refused("forecast", fitted / "model", new, "--out", tmp_path / "f.xlsx")
    assert "is no file in a folder that exists" in refused(
        "forecast", fitted / "model", new, "--out", tmp_path / "a/f.csv"
    )
    shutil.copytree(fitted / "model", tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"no weights")
    assert "is damaged, or of another forecaster.json" in refused("forecast", tmp_path / "model", new)


def test_what_fit_refuses(fitted, tmp_path):
    old, out = fitted / "old.csv", tmp_path / "out"
    as_german = ["--target", "load", "--separator", ";", "--decimal", ",", "--out", out]
    assert "--level: 1 must be above 0 and below 1" in refused("fit", old, *as_german, "--level", "1")
    assert "--from: " in refused("fit", old, *as_german, "--from", tmp_path)
    assert not out.exists()
    assert "--target is missing and names no column of old.csv to forecast; it has when, load, wind." in refused(
        "fit", old, "--separator", ";", "--out", out
    )
    long = pd.concat([table().rename(columns={"when": "ds", "load": "y"}).assign(unique_id=name) for name in "ab"])
    long.to_csv(tmp_path / "long.csv", index=False)
    assert "holds 2 series (a, b); fit takes one" in refused("fit", tmp_path / "long.csv", "--out", out)
    assert not list(out.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--known", "sun"], "--known='sun' is no input of series 'old'; its inputs are: wind."),
        (["--lengths", "400"], "too short"),
        (["--arms", "none,mc-dropout"], "arm 'mc-dropout' is not one network asked once"),
        (["--inputs", "sun"], "column 'sun' is not in old.csv"),
    ],
)
def test_what_fit_refuses_before_it_trains(fitted, tmp_path, words, fragment):
    as_german = ["--target", "load", "--separator", ";", "--decimal", ",", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(word) for word in ["fit", fitted / "old.csv", *as_german, *words]])
    assert result.exit_code == 2
    assert fragment in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_the_commands_in_interpreters_of_their_own(fitted, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*words):
        line = [sys.executable, "-m", "synaptic_pruning", *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, env=environment, check=True, timeout=600).stdout

    words = ["--target", "load", "--separator", ";", "--decimal", ",", "--out", tmp_path / "model", "--calendar"]
    run("fit", fitted / "old.csv", *words, *BOTH, "--models", "rnn,lstm,patchtst,mlp")
    found = pd.read_csv(io.StringIO(run("forecast", tmp_path / "model", fitted / "new.csv")))
    assert found["forecast"].between(400, 1600).all()
