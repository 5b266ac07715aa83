"""Metrics against utilsforecast and by hand; baselines by hand."""

import numpy as np
import pandas as pd
import pytest
import utilsforecast.losses as losses

from synaptic_pruning.tasks.forecasting import Series, make_task, persistence, score, seasonal_naive


def task_of(values, horizon=1, season=1):
    values = np.asarray(values, float)[:, None]
    return make_task(Series("s", "y", ("y",), np.arange(len(values)), values, season), length=3, horizon=horizon)


@pytest.mark.parametrize("season", [1, 7])
def test_scores_equal_utilsforecast(season):
    generator = np.random.default_rng(0)
    task = task_of(generator.standard_normal(200).cumsum(), season=season)
    forecasts = task.truth(task.test) + generator.standard_normal((len(task.test), 1))
    table = pd.DataFrame(
        {
            "unique_id": "s",
            "ds": task.test.origins,
            "y": task.truth(task.test)[:, 0],
            "model": forecasts[:, 0],
        }
    )
    rows = np.arange(task.cuts[0])
    past = pd.DataFrame({"unique_id": "s", "ds": rows, "y": task.series.values[rows, 0]})
    scores = score(task, forecasts)
    assert scores["mae"] == pytest.approx(losses.mae(table, ["model"])["model"].item())
    assert scores["rmse"] == pytest.approx(losses.rmse(table, ["model"])["model"].item())
    mase = losses.mase(table, ["model"], seasonality=season, train_df=past)
    assert scores["mase"] == pytest.approx(mase["model"].item())


def test_scores_by_hand_with_a_missing_truth():
    values = np.arange(30.0)  # steps of 1: training seasonal naive MAE is 2 at season 2
    values[28] = np.nan
    task = task_of(values, season=2)
    assert task.test.origins.tolist() == [23, 24, 25, 26, 27, 28]
    forecasts = np.array([[24.0], [27.0], [26.0], [27.0], [1e9], [30.0]])  # errors 0, 2, 0, 0, not scored, 1
    scores = score(task, forecasts)
    assert scores["mae"] == pytest.approx(3 / 5)
    assert scores["rmse"] == pytest.approx(1.0)
    assert scores["mase"] == pytest.approx(3 / 5 / 2)
    # Persistence is off by 1 each, by 2 where the last value was carried over the hole: 6 / 5.
    assert scores["skill"] == pytest.approx(1 - (3 / 5) / (6 / 5))


def test_persistence_has_skill_zero_and_zero_outputs_are_persistence():
    task = task_of(np.random.default_rng(1).standard_normal(60).cumsum(), horizon=2)
    forecasts = persistence(task, task.test)
    assert score(task, forecasts)["skill"] == 0
    np.testing.assert_array_equal(task.to_units(np.zeros(forecasts.shape), task.test), forecasts)


def test_missing_forecasts_are_not_overlooked():
    task = task_of(np.random.default_rng(1).standard_normal(60).cumsum())
    forecasts = persistence(task, task.test)
    forecasts[3] = np.nan
    assert all(np.isnan(value) for value in score(task, forecasts).values())


def test_skill_over_a_perfect_persistence_is_unknown_rather_than_an_error():
    task = task_of([*np.random.default_rng(1).standard_normal(46), *[5.0] * 14])
    scores = score(task, persistence(task, task.test) + 1)
    assert scores["mae"] == 1
    assert np.isnan(scores["skill"])


def test_seasonal_naive_by_hand():
    season = [10.0, 20.0, 30.0]
    values = np.array(season * 12)
    values[27] = np.nan  # the row before carries over: 30
    task = task_of(values, horizon=4, season=3)
    by_origin = dict(zip(task.test.origins.tolist(), seasonal_naive(task, task.test).tolist(), strict=True))
    assert by_origin[28] == [30.0, 30.0, 20.0, 30.0]  # rows 29 30 31 32 <- 26 27 28 26
    assert by_origin[31] == [30.0, 10.0, 20.0, 30.0]


def test_seasonal_naive_without_a_season_behind_is_persistence():
    task = task_of(np.arange(60.0), season=100)
    np.testing.assert_array_equal(seasonal_naive(task, task.test), persistence(task, task.test))


def test_forecasts_of_another_shape_are_refused():
    task = task_of(np.arange(60.0))
    with pytest.raises(ValueError, match="need \\(12, 1\\)"):
        score(task, np.zeros((3, 1)))
