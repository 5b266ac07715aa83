"""`study run`, `status` and `report` as real processes: killed, interrupted, two on one folder."""

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.processes.cell_work import slow_training
from helpers.processes.forked import Forked
from helpers.processes.study_runs import CELLS, SPEC, wait_until
from synaptic_pruning.cli import app
from synaptic_pruning.study import engine, forecasting


@pytest.fixture
def slow(monkeypatch, undrawn):
    """Trainings that are slow enough to be caught in flight."""
    monkeypatch.setattr(forecasting, "run_job", slow_training)


@pytest.fixture
def here(slow):
    """The command with such trainings in this process, whose fork server is warm."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def start(slow, tmp_path):
    """The same in a process group of its own, which can be killed like a terminal's."""
    return lambda *words: Forked(lambda: app([str(word) for word in words]), tmp_path)


def ended(process: Forked, code: int = 0) -> str:
    result = process.ended()
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def executions(folder: Path) -> dict[str, int]:
    hashes = [path.name.split("-")[1] for path in (folder / "cells").glob("run-*")]
    return {cell: hashes.count(cell) for cell in hashes}


def finished(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "cells").glob("*.json")}


def status(folder: Path) -> str:
    result = CliRunner().invoke(app, ["study", "status", str(folder)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[0]


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(SPEC)
    return path


def test_killed_midway_the_same_command_continues_and_runs_nothing_twice(tmp_path, spec, here, start):
    out = tmp_path / "out"
    first = start("study", "run", spec, "--out", out, "--jobs", 2)
    wait_until(lambda: len(finished(out)) >= 2)
    wait_until(lambda: re.fullmatch(r"Tiny: 8 cells, \d done, [12] running, 0 failed, \d left\.", status(out)))
    first.kill()
    first.ended()
    wait_until(lambda: ", 0 running," in status(out))
    time.sleep(0.5)  # its processes end when they find it gone
    kept, before = finished(out), executions(out)
    assert 2 <= len(kept) < CELLS
    assert status(out) == f"Tiny: 8 cells, {len(kept)} done, 0 running, 0 failed, {CELLS - len(kept)} left."

    again = here("study", "run", spec, "--out", out, "--jobs", 2)

    assert (again.exit_code, again.stdout) == (0, f"Report: {out / 'report.html'}\n")
    after = executions(out)
    assert len(after) == CELLS
    assert all(after[cell] == before.get(cell, 0) + (cell not in kept) for cell in after)
    assert all(after[cell] == 1 for cell in kept)
    assert status(out) == "Tiny: 8 cells, 8 done, 0 running, 0 failed, 0 left."
    table = pd.read_parquet(out / "results.parquet")
    table = table[table["model"] != ""]
    best = [
        part.loc[part["validation_mae"].idxmin(), "arm"] for part in (table, table[table["sparsity"] > 0]) if len(part)
    ]
    networks = {path.name for path in (out / "networks").iterdir()}
    assert networks == {f"sunspots-rnn-{arm}.safetensors" for arm in best}

    # The report again, from what lies there: the same table to the last byte, and nothing trained.
    written = (out / "results.csv").read_bytes(), (out / "results.parquet").read_bytes()
    for name in ("results.csv", "results.parquet", "report.html"):
        (out / name).unlink()
    result = CliRunner().invoke(app, ["study", "report", str(out)])
    assert result.exit_code == 0
    assert ((out / "results.csv").read_bytes(), (out / "results.parquet").read_bytes()) == written
    assert f"synaptic-pruning study run {out / 'spec.toml'} --out {out}" in (out / "report.html").read_text()
    assert executions(out) == after


def test_ctrl_c_stops_it_with_a_word_on_how_to_go_on(tmp_path, spec, start):
    out = tmp_path / "out"
    process = start("study", "run", spec, "--out", out, "--jobs", 2)
    # The next two have begun: a fork server that is interrupted while it starts one has a word of its own on that.
    wait_until(lambda: len(finished(out)) >= 1 and len(executions(out)) >= 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group gets it
    error = ended(process, code=130)
    assert f"Stopped; finished cells are kept in {out}, and the same command goes on from there." in error
    assert 1 <= len(finished(out)) < CELLS
    assert ", 0 running, 0 failed, " in status(out)


@pytest.mark.slow  # the next one sees the same and more, for as long as both live
def test_two_processes_share_a_folder_and_run_no_cell_twice(tmp_path, spec, here, start):
    out = tmp_path / "out"
    other = start("study", "run", spec, "--out", out, "--jobs", 1)
    wait_until(lambda: len(executions(out)) >= 1)
    assert here("study", "run", spec, "--out", out, "--jobs", 1).exit_code == 0
    ended(other)
    assert len(executions(out)) == CELLS
    assert set(executions(out).values()) == {1}


def test_what_a_killed_process_was_at_is_taken_over_by_the_other(tmp_path, spec, here, start):
    out = tmp_path / "out"
    lost = start("study", "run", spec, "--out", out, "--jobs", 1)
    wait_until(lambda: len(executions(out)) >= 1)

    in_flight: set[str] = set()

    def kill() -> None:
        wait_until(lambda: len(finished(out)) >= 3)
        os.killpg(lost.pid, signal.SIGKILL)
        in_flight.update(set(executions(out)) - finished(out))

    killer = threading.Thread(target=kill)
    killer.start()
    assert here("study", "run", spec, "--out", out, "--jobs", 1).exit_code == 0
    killer.join()
    assert lost.ended().returncode == -signal.SIGKILL
    counts = executions(out)
    twice = {cell for cell, count in counts.items() if count != 1}
    assert len(counts) == CELLS
    assert twice <= in_flight
    assert sum(counts.values()) <= CELLS + 1
    assert status(out) == "Tiny: 8 cells, 8 done, 0 running, 0 failed, 0 left."


def test_failed_runs_are_counted_with_their_reasons(tmp_path):
    spec = tmp_path / "hot.toml"
    spec.write_text(SPEC.replace('["none", "dropout"]', '["none"]') + "learning_rate = 1e30\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["study", "run", str(spec), "--out", str(out), "--jobs", "2"])
    assert result.exit_code == 2  # not one ended well
    assert "4 of 4 runs failed; the first: nan-loss: the loss was no longer finite in epoch" in result.stderr
    lines = CliRunner().invoke(app, ["study", "status", str(out)]).stdout.splitlines()
    assert lines[0] == "Tiny: 4 cells, 0 done, 0 running, 4 failed, 0 left."
    assert sum(int(line.split(" × ")[0]) for line in lines[1:]) == 4
    assert all("nan-loss" in line for line in lines[1:])
    assert "nan-loss" in (out / "results.csv").read_text()


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (
            ["run", "absent.toml", "--out", "{out}"],
            "there is no spec 'absent.toml'; give a file, or one of paper",
        ),
        (["run", "{bad}", "--out", "{out}"], "arm 'nome' is unknown"),
        (["run", "{far}", "--out", "{out}"], "too short"),
        (["run", "{good}", "--out", "{good}/below"], "Not a directory"),
        (["status", "{empty}"], "holds no study; give the --out folder of a study."),
        (["report", "{empty}"], "holds no study; give the --out folder of a study."),
        (["status", "{stored}"], "arm 'nome' is unknown"),
        (["status", "{elsewhere}", "--data-dir", "{empty}"], "wti"),
        (["report", "{elsewhere}", "--data-dir", "{empty}"], "wti"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(tmp_path, spec, words, fragment):
    bad, far, empty = tmp_path / "bad.toml", tmp_path / "far.toml", tmp_path / "empty"
    stored, elsewhere = tmp_path / "stored", tmp_path / "elsewhere"
    bad.write_text(SPEC.replace('"none"', '"nome"'))
    far.write_text(SPEC.replace("[4]", "[70]"))
    for folder, text in ((empty, ""), (stored, bad.read_text()), (elsewhere, SPEC.replace("sunspots", "wti-oil"))):
        folder.mkdir()
        if text:
            (folder / "spec.toml").write_text(text)
    places = {"bad": bad, "far": far, "good": spec, "empty": empty, "stored": stored, "elsewhere": elsewhere}
    places["out"] = tmp_path / "out"
    result = CliRunner().invoke(app, ["study", *(word.format(**places) for word in words)])
    assert result.exit_code == 2
    assert fragment in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stderr.startswith(("Error", "Usage"))  # one format for all commands
    assert not list(tmp_path.glob("out/cells/*.json"))


def test_without_jobs_every_core_is_used_also_where_the_system_cannot_tell_which(tmp_path, spec, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(engine, "Processes", lambda jobs, work: jobs)
    asked = []

    def compare_series(*_, executor, **__):
        asked.append(executor)
        return pd.DataFrame({"status": ["ok"]})

    monkeypatch.setattr("synaptic_pruning.study.forecasting.compare.compare_series", compare_series)
    result = CliRunner().invoke(app, ["study", "run", str(spec), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert asked == [3]


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379"])
def test_the_ray_backend_without_ray_says_what_to_install(tmp_path, spec, monkeypatch, address):
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["study", "run", str(spec), "--out", str(tmp_path / "out"), "--backend", "ray", "--address", address]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr == "the Ray backend needs Ray; install synaptic-pruning with its extra [ray].\n"


def test_a_spec_that_grows_adds_cells_and_keeps_the_old(tmp_path, spec, here):
    out = tmp_path / "out"
    spec.write_text(SPEC.replace("seeds = 4", "seeds = 1"))
    assert here("study", "run", spec, "--out", out).exit_code == 0
    spec.write_text(SPEC.replace("seeds = 4", "seeds = 2"))
    assert here("study", "run", spec, "--out", out).exit_code == 0
    assert sorted(executions(out).values()) == [1] * 4
    assert json.loads(next((out / "cells").glob("*.json")).read_text())["status"] == "ok"
