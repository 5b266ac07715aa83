"""A network that a comparison trained, exported: the file is smaller, the forecasts are the same."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.planned import planned
from synaptic_pruning.study.forecasting.options import Grid
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report.export_benchmark import BATCHES, exported
from synaptic_pruning.study.forecasting.run import run_cell
from synaptic_pruning.tasks.forecasting.data.series import Series


def _series(name: str, rows: int) -> Series:
    wave = np.sin(np.arange(rows) / 3) + np.random.default_rng(0).normal(size=rows) / 10
    return Series(name, "y", ("y",), np.arange(rows), wave[:, None], season=1)


def test_the_best_pruned_network_of_every_model_on_the_largest_data_set(tmp_path):
    series = {f"{one.name}: multivariate": one for one in (_series("short", 120), _series("long", 240))}
    grid = Grid(sparsity=(0.9,))
    plan = Plan(("rnn", "lstm"), ("none", "synaptic"), lengths=(6,), horizons=(1,), seeds=2, epochs=2, grid=grid)
    cells = planned(plan, list(series.values()))
    torch.set_num_threads(1)
    records = [run_cell(cell, series[cell.data], tmp_path) for cell in cells]
    rows = exported(cells, records, series, tmp_path)
    assert [(row.model, row.dataset, row.length) for row in rows] == [("rnn", "long", 6), ("lstm", "long", 6)]
    assert exported(cells, records, series, tmp_path) == rows, "measured once"
    for row in rows:
        assert row.mae[1] == pytest.approx(row.mae[0], rel=1e-5)
        assert row.bytes[0] / row.bytes[1] > 3
        assert len(row.milliseconds) == len(row.forms) == len(BATCHES)
        networks = [
            c for c, r in zip(cells, records, strict=True) if c.option.prunes and r["answers"]["0"]["mae"] == row.mae[0]
        ]
        weights = load_file(tmp_path / f"{networks[0].hash}.safetensors")
        assert sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values()) > 0.8


def test_nothing_pruned_nothing_exported(tmp_path):
    one = _series("a", 120)
    cells = planned(Plan(("rnn",), ("none",), (6,), (1,), 1, 1), [one])
    assert exported(cells, [{"status": "ok"}], {"a: multivariate": one}, tmp_path) == []
