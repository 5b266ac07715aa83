"""What goes wrong in a cell, from its process to the statistics: told with its reason, never silently dropped."""

import numpy as np
import pytest

from helpers.processes.cell_work import diverging_training
from helpers.processes.forked import ForkedProcesses
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting.compare import compare_series
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import run_cell
from synaptic_pruning.study.statistics import block_means, paired
from synaptic_pruning.tasks.forecasting.data.series import Series

WAVES = [
    Series(name, "y", ("y",), np.arange(80), np.sin(np.arange(80.0) / pace)[:, None], season=1)
    for name, pace in (("slow", 9.0), ("fast", 2.0))
]
PLAN = Plan(("rnn",), ("none", "dropout"), lengths=(4,), horizons=(1,), seeds=4, epochs=1, baselines=())


@pytest.mark.usefixtures("undrawn")
def test_failures_reach_the_table_with_their_reasons_and_leave_their_partners_out(tmp_path):
    table = compare_series(WAVES, PLAN, tmp_path, executor=ForkedProcesses(2, diverging_training), about=About("again"))

    assert len(table) == 16  # every run is there
    failed = table[table["status"] != "ok"].set_index("seed")["status"].to_dict()
    assert sorted(failed) == [1, 2, 3]
    assert failed[1].startswith("nan-loss: the loss was no longer finite in epoch 1; lower the learning rate")
    assert failed[2] == "killed: signal 9, most often because memory ran out"
    assert failed[3].startswith("failed: RuntimeError: ")
    assert "memory" in failed[3]
    assert table.loc[table["status"] != "ok", "mae"].isna().all()

    kept, left_out = paired(table)
    assert left_out == 6  # three that failed and their three partners
    assert sorted(zip(kept["dataset"], kept["arm"], kept["seed"], strict=True)) == sorted(
        (name, arm, seed)
        for name, seeds in (("slow", (0,)), ("fast", (0, 1, 2, 3)))
        for arm in ("none", "dropout")
        for seed in seeds
    )
    # The mean of "slow" is that of the one seed which both arms have, not of whichever seeds an arm was lucky with.
    alone = table[(table["dataset"] == "slow") & (table["seed"] == 0)].set_index("arm")["mae"]
    np.testing.assert_allclose(block_means(kept).loc["slow"], alone[list(block_means(kept))], rtol=1e-12)
    page = (tmp_path / "report.html").read_text()
    for reason in ("nan-loss", "killed: signal 9", "failed: RuntimeError"):
        assert reason in page

    # Accidents are tried again, a divergence is a result.
    again = compare_series(WAVES, PLAN, tmp_path, executor=ForkedProcesses(2, run_cell), about=About("again"))
    assert again.loc[again["status"] != "ok", "status"].tolist() == [failed[1]]
    assert paired(again)[1] == 2
