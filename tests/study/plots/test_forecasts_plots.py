"""Forecasts in pictures: their dates are those of the targets, and no axis makes a gulf of a trifle."""

import re

import numpy as np
import pandas as pd
import pytest

from helpers.svg_reading import read_svg
from synaptic_pruning.study.plots import error_by_weights, errors_by_step, forecasts, heat_map
from synaptic_pruning.study.plots.forecasts import _steps
from synaptic_pruning.tasks.forecasting import Series, make_task


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_dates_are_those_of_the_next_step_of_every_origin(horizon):
    days = np.datetime64("2020-01-01", "ns") + np.arange(60) * np.timedelta64(1, "D")
    task = make_task(Series("a", "y", ("y",), days, np.sin(np.arange(60.0))[:, None], 1), length=3, horizon=horizon)
    found, _ = _steps(days, len(task.test), horizon)
    np.testing.assert_array_equal(found, days[task.test.origins + 1])


def record(horizon=1):
    cell = {"dataset": "a", "regime": "features", "model": "rnn", "length": 3, "horizon": horizon}
    return {"cell": cell, "tail": {"truth": [1.0, None, 3.0], "forecasts": {"none": [1.0, 2.0, 2.5]}}}


def test_axes_name_the_target_and_the_time():
    days = np.datetime64("2021-12-30", "ns") + np.arange(5) * np.timedelta64(1, "D")
    (panel,) = forecasts([record()], {"a": days}, {"a": "level of $x$"}, ["regime"])
    texts = read_svg(panel).texts
    assert "level of $x$" in texts
    assert any("2022" in text for text in texts)
    assert panel.title == "a (features) · rnn, window 3"
    assert "steps before the last forecast" in read_svg(forecasts([record()])[0]).texts
    (years,) = forecasts([record()], {"a": np.arange(1990, 1995)})
    assert {"time", "1992", "1994"} <= set(read_svg(years).texts)


def test_the_error_by_steps_ahead_starts_at_zero_and_names_its_ends():
    rows = [("a", "features", 3, arm, step, base + step) for arm, base in (("none", 5), ("x", 6)) for step in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["dataset", "regime", "horizon", "arm", "step", "mae"])
    (panel,) = errors_by_step(table, {"a": "level"})
    assert panel.description == "Test error on a by steps ahead; at step 3: none 8, x 9."
    assert {"0", "MAE of level", "steps ahead"} <= set(read_svg(panel).texts)


def test_a_trifle_is_not_drawn_as_a_gulf():
    columns = ["dataset", "regime", "horizon", "model", "length", "arm", "mae", "skill", "alive"]
    rows = [("a", "features", 1, "rnn", 3, arm, mae, 1 - mae, 500) for arm, mae in (("none", 1.0), ("set", 1.017))]
    table = pd.DataFrame(rows, columns=columns)
    (weights,) = error_by_weights(table)
    ticks = [float(text) for text in read_svg(weights).texts if re.fullmatch(r"[01]\.\d+", text)]
    assert max(ticks) - min(ticks) >= 0.07  # of an axis over 0.1
    (fill,) = re.findall(r"fill: #([0-9a-f]{6}); stroke: #ffffff", heat_map(table).svg)
    assert min(int(fill[place : place + 2], 16) for place in (0, 2, 4)) > 0x90, "pale, as 1.7 % is little"
