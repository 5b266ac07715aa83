"""Seeds that are trained side by side must give the study of seeds trained one by one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.planned import planned
from helpers.processes.cell_work import failing_team, traced, untraced
from synaptic_pruning.study.engine.local import Processes
from synaptic_pruning.study.engine.records import group, read_record
from synaptic_pruning.study.engine.runner import run
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting import compare as comparing
from synaptic_pruning.study.forecasting.compare import compare_series
from synaptic_pruning.study.forecasting.options import Grid
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import run_job
from synaptic_pruning.tasks.forecasting.data.series import Series

WAVE = Series("wave", "y", ("y",), np.arange(120), np.sin(np.arange(120.0) / 3)[:, None], season=1)
ARMS = ("none", "dropout", "mc-dropout", "synaptic", "synaptic-ensemble", "identical")
HALF = Grid(sparsity=(0.5,))  # an ensemble of two
APART = Plan(("rnn", "lstm"), ARMS, lengths=(4,), horizons=(1,), seeds=2, epochs=2, batch_size=16, grid=HALF)
TOGETHER = replace(APART, together=True)


@pytest.mark.usefixtures("undrawn")
def test_the_table_is_that_of_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "exported", lambda *_: [])  # its figures are measured times
    tables = []
    for name, plan in (("apart", APART), ("together", TOGETHER)):
        (tmp_path / name).mkdir()
        alone = replace(plan, models=("rnn",))  # of the others the cells are the same, as their hashes say
        tables.append(compare_series([WAVE], alone, tmp_path / name, executor=Processes(2, run_job), about=About("")))
    apart, together = tables
    same = ["dataset", "model", "arm", "seed", "option", "sparsity", "alive", "best_epoch", "status"]
    pd.testing.assert_frame_equal(apart[same], together[same])
    assert (together["status"] == "ok").all()
    np.testing.assert_allclose(apart["mae"], together["mae"], rtol=1e-3)
    for one, other in zip(planned(APART, [WAVE]), planned(TOGETHER, [WAVE]), strict=True):
        assert (one.hash == other.hash) == (one.model == other.model == "lstm")
    sentence = "RNNs of several seeds were trained side by side"
    assert [sentence in (tmp_path / name / "report.html").read_text() for name in ("apart", "together")] == [
        False,
        True,
    ]


def test_a_record_says_how_many_were_trained_side_by_side(tmp_path):
    cells = planned(replace(TOGETHER, arms=("none",)), [WAVE])
    for record in run(cells, {"wave: multivariate": WAVE}, tmp_path, Processes(1, run_job)):
        assert record.get("together") == (2 if record["cell"]["model"] == "rnn" else None)


def test_only_seeds_of_one_setting_make_a_team():
    teams = group(planned(TOGETHER, [WAVE, replace(WAVE, name="other")]))
    assert sum(map(len, teams)) == len(planned(APART, [WAVE])) * 2
    for team in teams:
        (kind,) = {(c.dataset, c.model, c.option, c.length) for c in team}
        assert len(team) == 1 or kind[1] == "rnn"
        assert len({c.seed for c in team}) == len(team)
    # Each run of an ensemble has two networks, the others have as many as there are seeds.
    assert sorted(len(team) for team in teams if team[0].model == "rnn") == sorted(2 * [2, 2, 2 * 2, 2])


def test_a_killed_team_costs_its_own_cells_and_is_tried_again(tmp_path):
    cells = planned(replace(TOGETHER, models=("rnn",), arms=("none", "dropout")), [WAVE])
    first = run(cells, {"wave: multivariate": WAVE}, tmp_path, Processes(2, failing_team))
    assert len(first) == 4
    for record in first:
        hurt = "failed: RuntimeError: no luck" if record["cell"]["option"]["dropout"] else "killed: signal 9"
        assert record["status"].startswith(hurt)
    assert [r["status"] for r in run(cells, {"wave: multivariate": WAVE}, tmp_path, Processes(2, run_job))] == [
        "ok"
    ] * 4


def test_cells_that_are_there_already_are_not_trained_again(tmp_path):
    cells = planned(replace(TOGETHER, models=("rnn",), arms=("none",), seeds=3), [WAVE])
    run(cells[1:2], {"wave: multivariate": WAVE}, tmp_path, Processes(1, untraced))
    run(cells, {"wave: multivariate": WAVE}, tmp_path, Processes(1, traced))
    traces = [path.name.split("-")[1] for path in tmp_path.glob("run-*")]
    assert sorted(traces) == sorted([cells[0].hash, cells[2].hash])
    assert all(read_record(tmp_path, cell)["status"] == "ok" for cell in cells)


@pytest.mark.parametrize("together", [False, True])
def test_the_hash_knows_how_a_cell_is_trained(together):
    cell = planned(replace(APART, together=together), [WAVE])[0]
    assert ("together" in cell.to_dict()) == together
