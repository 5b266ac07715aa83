"""The calendar against the engineered inputs and pandas; columns known ahead; intervals against counting."""

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.study.forecaster import coverage, extend, half_widths, with_inputs
from synaptic_pruning.tasks.forecasting import DataError, Series, cycles, engineer, make_task


def series(rows, step, columns=("y", "x", "z")):
    times = np.asarray(pd.date_range("2023-11-05 00:00", periods=rows, freq=step).as_unit("ns"))
    return Series("walk", "y", columns, times, np.random.default_rng(0).standard_normal((rows, len(columns))), season=1)


@pytest.mark.parametrize(("rows", "step"), [(500, "h"), (900, "D"), (60, "D"), (120, "W"), (10, "h"), (80, "MS")])
def test_the_calendar_is_that_of_the_engineered_inputs(rows, step):
    walk = series(rows, step)
    wanted = dict(zip(engineer(walk).columns, engineer(walk).values.T, strict=True))
    own = extend(walk, horizon=1, calendar=cycles(walk.times))
    names = [name for name in wanted if name.split()[0] in ("hour", "weekday", "year")]
    assert list(own.columns[3:]) == names
    for name, values in zip(own.columns[3:], own.values.T[3:], strict=True):
        np.testing.assert_allclose(values, wanted[name], atol=1e-12)
        np.testing.assert_allclose(values, _by_pandas(pd.DatetimeIndex(walk.times), *name.split()), atol=1e-12)


def _by_pandas(dates, cycle, wave):
    of_day = (dates - dates.normalize()) / pd.Timedelta(days=1)
    of_year = (dates.day_of_year - 1 + of_day) / (365 + dates.is_leap_year)
    place = {"hour": of_day, "weekday": dates.day_of_week / 7, "year": of_year}[cycle]
    return {"sine": np.sin, "cosine": np.cos}[wave](2 * np.pi * np.asarray(place, np.float64))


def test_a_window_ends_with_the_known_value_of_the_last_row_to_forecast():
    walk = series(60, "D")
    task = make_task(extend(walk, horizon=3, known=["z"]), length=4, horizon=3)
    scaler = task.scaler
    for part in (task.train, task.validation, task.test):
        for inputs, origin in zip(part.inputs, part.origins, strict=True):
            seen = inputs[:, 2].double().numpy() * scaler.scale[2] + scaler.mean[2]
            np.testing.assert_allclose(seen, walk.values[origin : origin + 4, 2], atol=1e-6)
            own = inputs[:, 1].double().numpy() * scaler.scale[1] + scaler.mean[1]
            np.testing.assert_allclose(own, walk.values[origin - 3 : origin + 1, 1], atol=1e-6)


def test_what_is_not_known_is_refused():
    for name in ("y", "w"):
        with pytest.raises(DataError, match=f"known='{name}' is no input of series 'walk'; its inputs are: x, z"):
            extend(series(60, "D"), horizon=1, known=[name])
    with pytest.raises(DataError, match="too few for two cycles of the calendar"):
        with_inputs(series(5, "D"), horizon=1, calendar=True)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_half_widths_are_the_smallest_that_leave_few_errors_outside(level):
    errors = np.random.default_rng(0).standard_normal((40, 3))
    errors[3, 1] = np.nan
    for column, width in zip(errors.T, half_widths(errors, level), strict=True):
        sizes = np.abs(column[~np.isnan(column)])
        fits = [size for size in sizes if (sizes <= size).sum() >= (len(sizes) + 1) * level - 1e-9]
        assert width == min(fits)


def test_intervals_hold_as_promised_where_errors_are_alike():
    generator = np.random.default_rng(0)
    held = [
        coverage(generator.standard_normal((200, 1)), half_widths(generator.standard_normal((29, 1)), 0.9))
        for _ in range(500)
    ]
    assert np.mean(held) == pytest.approx(27 / 30, abs=0.01)  # the exact expectation of the 27th of 29


def test_too_few_errors_give_no_interval():
    assert np.isnan(half_widths(np.ones((8, 1)), 0.9)).all()
    assert half_widths(np.ones((9, 1)), 0.9) == [1.0]
    assert coverage(np.ones((8, 1)), np.array([np.nan])) is None
