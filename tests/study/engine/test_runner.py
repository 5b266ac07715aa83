"""The runner against real processes: killed parents, killed children, Ctrl-C, broken records."""

import json
import os
import random
import signal
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import synaptic_pruning as sp
from helpers.planned import planned
from helpers.processes.cell_work import failing_square, square, told_training
from helpers.processes.forked import Forked
from helpers.processes.study_runs import wait_until
from synaptic_pruning.study.algorithms import ALGORITHMS, DEFAULT
from synaptic_pruning.study.engine.atomic_write import write_atomically
from synaptic_pruning.study.engine.local import Processes
from synaptic_pruning.study.engine.records import write_record
from synaptic_pruning.study.engine.runner import run
from synaptic_pruning.study.forecasting.arms import ARMS, members
from synaptic_pruning.study.forecasting.options import Grid, Option
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.tasks.forecasting.data.series import Series

TIDES = Series("tides", "y", ("y",), np.arange(40), np.sin(np.arange(40.0))[:, None], season=12)
DATA = {"tides: multivariate": TIDES}
PLAN = Plan(models=("rnn",), arms=("none",), lengths=(3,), horizons=(1,), seeds=6, epochs=1)
CELLS = planned(PLAN, [TIDES])


def executions(folder: Path) -> dict[int, int]:
    seeds = [int(path.name.split("-")[1]) for path in folder.glob("run-*")]
    return {seed: seeds.count(seed) for seed in seeds}


def finished(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(CELLS, DATA, tmp_path_factory.mktemp("uninterrupted"), Processes(2, square))


def test_every_cell_runs_once_and_in_order(expected):
    assert [record["value"] for record in expected] == [40 + seed**2 for seed in range(6)]


@pytest.mark.parametrize(("protocol", "together"), [("rigorous", False), ("paper", False), ("rigorous", True)])
def test_the_process_of_a_cell_imports_nothing_that_the_fork_server_could_have(tmp_path, protocol, together):
    settings = {"arms": ("vos2025",), "seeds": 2, "epochs": 5, "protocol": protocol, "together": together}
    executor = Processes(1, told_training)
    record, _ = run(planned(Plan(**{**PLAN.__dict__, **settings}), [TIDES]), DATA, tmp_path, executor)
    assert record["status"] == "ok"
    # Another process of the same server, whose task needs no import.
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'w').write(' '.join(sys.modules))"
    process = executor._context.Process(target=exec, args=(code, {}))
    process.start()
    process.join()
    own = set(record["modules"]) - set(told.read_text().split())
    heavy = ("synaptic_pruning", "numpy", "pandas", "safetensors", "scipy", "sklearn", "statsmodels", "torch._dynamo")
    assert not [name for name in own if name.startswith(heavy)]


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_continues_where_it_was(tmp_path, expected, blow):
    parent = Forked(lambda: run(CELLS, DATA, tmp_path, Processes(2, square)), tmp_path)
    wait_until(lambda: len(finished(tmp_path)) >= 2)
    family = psutil.Process(parent.pid).children(recursive=True)
    if blow == signal.SIGINT:
        os.killpg(parent.pid, blow)  # as a terminal does: the whole group gets it
    else:
        parent.kill()
    parent.ended(timeout=30)
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))
    before, kept = executions(tmp_path), finished(tmp_path)
    assert 2 <= len(kept) < len(CELLS)

    again = run(CELLS, DATA, tmp_path, Processes(2, square))

    assert again == expected
    after = executions(tmp_path)
    for cell in CELLS:
        if cell.hash in kept:
            assert after[cell.seed] == before[cell.seed] == 1
        else:
            assert after[cell.seed] == before.get(cell.seed, 0) + 1


@pytest.mark.slow
def test_killed_at_fifty_moments_a_study_loses_at_most_what_was_in_flight(tmp_path, expected):
    rng, kills, round_ = random.Random(0), 0, 0
    while kills < 50:
        folder = tmp_path / str(round_)
        folder.mkdir()
        round_ += 1
        in_flight = 0
        while len(finished(folder)) < len(CELLS):
            before, kept = executions(folder), finished(folder)
            parent = Forked(lambda folder=folder: run(CELLS, DATA, folder, Processes(2, square)), folder)
            time.sleep(rng.uniform(0.05, 1.5))
            os.killpg(parent.pid, signal.SIGKILL)
            kills += parent.ended().returncode == -signal.SIGKILL
            in_flight += 2
            again = [cell.seed for cell in CELLS if executions(folder).get(cell.seed, 0) > before.get(cell.seed, 0)]
            assert not {cell.hash for cell in CELLS if cell.seed in again} & kept
            assert len(again) <= len(finished(folder) - kept) + 2
        assert run(CELLS, DATA, folder, Processes(2, square)) == expected
        assert sum(executions(folder).values()) <= len(CELLS) + in_flight


def test_failures_are_recorded_with_their_reason_and_only_accidents_are_retried(tmp_path):
    records = run(CELLS, DATA, tmp_path, Processes(2, failing_square))
    status = [record["status"] for record in records]
    assert status[0] == status[4] == status[5] == "ok"
    assert status[1] == "failed: RuntimeError: no luck"
    assert status[2].startswith("killed: signal 9")
    assert status[3].startswith("nan-loss")
    assert records[0]["value"] is None  # JSON has no NaN

    again = run(CELLS, DATA, tmp_path, Processes(2, square))
    assert [record["status"] for record in again[1:4]] == ["ok", "ok", status[3]]
    assert executions(tmp_path) == dict.fromkeys(range(6), 1)


def test_a_torn_record_counts_as_absent(tmp_path, expected):
    cell = CELLS[0]
    (tmp_path / f"{cell.hash}.json").write_text('{"status": "ok"')
    (record,) = run([cell], DATA, tmp_path, Processes(1, square))
    assert record == expected[0] == json.loads((tmp_path / f"{cell.hash}.json").read_text())


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_hash_follows_content_and_nothing_else():
    (cell, *_), (same, *_) = planned(PLAN, [TIDES]), planned(PLAN, [TIDES])
    assert cell.hash == same.hash
    other = Series("tides", "y", ("y",), TIDES.times, TIDES.values + 1, season=12)
    changes = [
        planned(PLAN, [other])[0],
        planned(Plan(**{**PLAN.__dict__, "epochs": 2}), [TIDES])[0],
        planned(Plan(**{**PLAN.__dict__, "arms": ("dropout",)}), [TIDES])[0],
        planned(Plan(**{**PLAN.__dict__, "predict": "level"}), [TIDES])[0],
    ]
    assert len({cell.hash, *(changed.hash for changed in changes)}) == 5


def test_arms_of_one_option_share_a_training():
    grid = Grid(sparsity=(0.5, 0.9), weight_decay=(0, 1), options=2, dropout=(0.3, 0.5))
    arms = tuple(
        name for name in ARMS if not ARMS[name].ensemble and name not in ("locked-dropout", "synaptic-dropout")
    )
    plan = Plan(**{**PLAN.__dict__, "arms": arms, "seeds": 1, "grid": grid})
    cells = planned(plan, [TIDES])
    assert len({cell.hash for cell in cells}) == len(cells)
    assert [(cell.option, cell.passes) for cell in cells if cell.option.dropout == 0.3] == [
        (Option(dropout=0.3), (0, 50))
    ]
    kinds = [(cell.option.algorithm, cell.option.share, cell.option.keep) for cell in cells if not cell.option.dropout]
    own = {"disuse": 0, "survival": 0, "vos2025": 0.7}  # of the first two the sparsity is an outcome
    pruned = [(name, 1 - s, 1) for name in ALGORITHMS for s in ((own[name],) * 2 if name in own else (0.5, 0.9))]
    wide = [(DEFAULT, (1 / (1 - s)) * (1 - s), 1 / (1 - s)) for s in (0.5, 0.9)]
    narrow = [("", 1 - s, 1 - s) for s in (0.5, 0.9)]
    # None and identical remove nothing, with and without weight decay.
    assert sorted(kinds) == sorted([*pruned, *wide, *narrow, *[("", 1, 1)] * 4])


def test_random_masks_start_as_those_do_that_they_are_the_control_of_and_stay():
    grid = Grid(sparsity=(0.5, 0.8))
    for pruned, control in zip(ARMS["set"].settings(grid), ARMS["random"].settings(grid), strict=True):
        ours, theirs = pruned.rule(seed=2), control.rule(seed=2)
        assert (theirs.sparsity, theirs.seed, theirs.scaled_start) == (ours.sparsity, ours.seed, ours.scaled_start)
        starts = []
        for rule in (ours, theirs):
            torch.manual_seed(0)
            net = torch.nn.Linear(40, 40)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=10, every=1)
            starts.append(pruner.masks()["weight"])
            for _ in range(10):
                net(torch.randn(4, 40)).sum().backward()
                optimizer.step()
            assert pruner.sparsity() == rule.sparsity
            assert torch.equal(pruner.masks()["weight"], starts[-1]) == (rule is theirs)
        assert torch.equal(*starts)


def test_members_of_an_ensemble_have_no_more_weights_than_one_dense_network():
    for tenths in range(1, 1000):
        sparsity = tenths / 1000
        kept = Fraction(1000 - tenths, 1000)
        count = members(Option(algorithm="set", sparsity=sparsity))
        assert count * kept <= 1 < (count + 1) * kept
    settings = ARMS["synaptic-ensemble"].settings
    assert [one.sparsity for one in settings(Grid(sparsity=(0.4, 0.5, 0.8)))] == [0.5, 0.8]


class HalfMinutes:
    """An executor of two places that finishes a cell every half minute, by a clock of its own."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now

    def room(self, running):
        return running < 2

    def start(self, cell, data, folder):
        write_record(folder, cell, {"cell": cell.to_dict(), "hash": cell.hash, "status": "ok"})
        return cell.hash

    def wait(self, running, folder):
        self.now += 30
        return [next(iter(running))]

    def stop(self, running):
        pass


def test_the_time_left_is_said_after_the_first_cells(tmp_path, monkeypatch, capsys):
    executor = HalfMinutes()
    monkeypatch.setattr("synaptic_pruning.study.engine.runner.time", executor)
    run(CELLS[:5], DATA, tmp_path, executor, later=10)
    assert capsys.readouterr().err.count("About 6 minutes for 12 more, going by the first 3.") == 1
    run(CELLS, DATA, tmp_path, executor, later=10)  # a single one is left
    assert "About" not in capsys.readouterr().err
