"""Baselines against scikit-learn and statsforecast's own steps, on lines and seasons, and without the future."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from synaptic_pruning.tasks.forecasting import (
    BASELINES,
    DataError,
    Series,
    auto_ets,
    baseline_forecasts,
    lightgbm,
    make_task,
    mean_absolute_error,
    persistence,
    ridge,
    seasonal_naive,
)
from synaptic_pruning.tasks.forecasting.baselines import PENALTIES

LIBRARIES = {"lightgbm": "lightgbm", "auto-ets": "statsforecast"}
EACH = [
    pytest.param(name, marks=pytest.mark.slow if name in LIBRARIES else ()) for name in BASELINES
]  # the libraries take seconds to import


@pytest.fixture
def installed(request):
    """Skip what needs a library that is not there."""
    name = request.getfixturevalue("name")
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    return name


def walk(rows=200, channels=2, seed=0, missing=0.0, season=1):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, channels)).cumsum(0) * 3 + 50
    values[generator.random(values.shape) < missing] = np.nan
    columns = tuple(f"c{number}" for number in range(channels))
    return Series("walk", "c0", columns, np.arange(rows), values, season)


def of_scikit_learn(task):
    """Every step and penalty on its own; the penalty with the smallest validation MAE."""
    train, validation, test = (
        part.inputs.reshape(len(part), -1).double().numpy() for part in (task.train, task.validation, task.test)
    )
    targets = task.train.targets.double().numpy()
    found = []
    for penalty in PENALTIES:
        models = []
        for step in range(task.horizon):
            known = ~np.isnan(targets[:, step])
            models.append(Ridge(alpha=penalty, solver="svd").fit(train[known], targets[known, step]))
        forecasts = [
            task.to_units(np.column_stack([model.predict(rows) for model in models]), part)
            for rows, part in ((validation, task.validation), (test, task.test))
        ]
        found.append((mean_absolute_error(task.truth(task.validation), forecasts[0]), forecasts))
    return min(found, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize(
    ("channels", "length", "horizon", "missing", "predict"),
    [
        (1, 5, 1, 0.0, "delta"),
        (2, 6, 3, 0.1, "delta"),
        (3, 4, 2, 0.0, "level"),
        (60, 4, 1, 0.0, "delta"),  # more inputs than windows
        (60, 4, 3, 0.05, "level"),
    ],
)
def test_ridge_is_that_of_scikit_learn(channels, length, horizon, missing, predict):
    task = make_task(walk(channels=channels, missing=missing), length=length, horizon=horizon, predict=predict)
    validation, test = of_scikit_learn(task)
    found = ridge(task)
    np.testing.assert_allclose(found["validation"], validation, rtol=1e-6)
    np.testing.assert_allclose(found["test"], test, rtol=1e-6)


def test_ridge_takes_the_penalty_that_validation_likes():
    # Noise in many inputs: a small penalty fits it, a large one leaves persistence.
    task = make_task(walk(channels=80), length=4)
    found = mean_absolute_error(task.truth(task.validation), ridge(task)["validation"])
    naive = mean_absolute_error(task.truth(task.validation), persistence(task, task.validation))
    assert found <= 1.01 * naive


@pytest.mark.parametrize("name", EACH)
def test_each_forecasts_a_season(installed, name):
    # Period 8, less than the window; no two neighbours are alike, so persistence alone must fail.
    season = np.array([10.0, 14.0, 11.0, 18.0, 12.0, 9.0, 15.0, 20.0])
    noise = np.random.default_rng(1).normal(0, 0.01, 320)
    values = (np.tile(season, 40) + noise)[:, None]
    task = make_task(Series("s", "y", ("y",), np.arange(320), values, 8), length=16, horizon=2)
    forecasts = baseline_forecasts(task, [name])[name]
    for part, windows in (("validation", task.validation), ("test", task.test)):
        assert forecasts[part].shape == (len(windows), 2)
        assert forecasts[part].dtype == np.float64
        error = mean_absolute_error(task.truth(windows), forecasts[part])
        assert error > 1 if name == "persistence" else error < 0.2


@pytest.mark.parametrize("name", EACH)
def test_each_but_the_naive_ones_follows_a_line(installed, name):
    noise = np.random.default_rng(2).normal(0, 0.01, 200)
    line = (np.arange(200.0) * 0.5 + 100 + noise)[:, None]
    task = make_task(Series("line", "y", ("y",), np.arange(200), line, 4), length=6, horizon=3)
    error = np.abs(baseline_forecasts(task, [name])[name]["test"] - task.truth(task.test)).mean(0)
    if name == "persistence":
        np.testing.assert_allclose(error, [0.5, 1.0, 1.5], atol=0.02)
    elif name == "seasonal naive":
        np.testing.assert_allclose(error, [2.0, 2.0, 2.0], atol=0.02)
    else:
        assert error.max() < 0.1


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_no_forecast_knows_what_comes_after_it(installed, name, missing):
    data = walk(rows=150, missing=missing, season=5)
    task = make_task(data, length=4, horizon=2)
    change = task.cuts[1] + 12
    values = data.values.copy()
    values[change:] = values[change:] * -7 + 1000
    other = make_task(
        Series(data.name, data.target, data.columns, data.times, values, data.season), length=4, horizon=2
    )
    before, after = (baseline_forecasts(each, [name])[name] for each in (task, other))
    np.testing.assert_array_equal(before["validation"], after["validation"])
    early = task.test.origins < change
    assert 0 < early.sum() < len(early)
    np.testing.assert_array_equal(before["test"][early], after["test"][early])
    assert not np.allclose(before["test"][~early], after["test"][~early])


def test_the_naive_ones_are_those_of_the_metrics():
    task = make_task(walk(season=7), length=4, horizon=3)
    found = baseline_forecasts(task, ["persistence", "seasonal naive"])
    np.testing.assert_array_equal(found["persistence"]["validation"], persistence(task, task.validation))
    np.testing.assert_array_equal(found["seasonal naive"]["test"], seasonal_naive(task, task.test))


@pytest.mark.slow
def test_lightgbm_gives_the_same_twice_and_takes_the_better_number_of_leaves(monkeypatch):
    pytest.importorskip("lightgbm")
    from synaptic_pruning.tasks.forecasting import baselines

    task = make_task(walk(rows=300, missing=0.05), length=5, horizon=2)
    both = lightgbm(task)
    np.testing.assert_array_equal(both["test"], lightgbm(task)["test"])
    single = []
    for leaves in baselines.LEAVES:
        monkeypatch.setattr(baselines, "LEAVES", (leaves,))
        single.append(lightgbm(task))
    truth = task.truth(task.validation)
    best = min(single, key=lambda found: mean_absolute_error(truth, found["validation"]))
    np.testing.assert_array_equal(both["test"], best["test"])
    assert not np.array_equal(single[0]["test"], single[1]["test"])


@pytest.mark.slow
def test_lightgbm_learns_what_no_line_can():
    pytest.importorskip("lightgbm")
    generator = np.random.default_rng(3)
    hint = generator.uniform(-1, 1, 600)
    values = np.column_stack([np.concatenate([[0.0], np.abs(hint[:-1])]), hint])
    task = make_task(Series("v", "y", ("y", "hint"), np.arange(600), values, 1), length=2, predict="level")
    truth = task.truth(task.test)
    assert mean_absolute_error(truth, lightgbm(task)["test"]) < 0.3 * mean_absolute_error(truth, ridge(task)["test"])


@pytest.mark.slow
def test_auto_ets_equals_exponential_smoothing_by_hand():
    pytest.importorskip("statsforecast")
    from statsforecast.models import AutoETS

    values = np.random.default_rng(4).normal(0, 1, 200).cumsum() * 0.2 + np.random.default_rng(5).normal(0, 1, 200)
    values[:3] = np.nan  # no observations: they are left out
    task = make_task(Series("s", "y", ("y",), np.arange(200), values[:, None], 1), length=4, horizon=2)
    found = auto_ets(task)
    model = AutoETS(season_length=1).fit(values[3:140]).model_
    assert model["components"] == "ANNN"
    alpha, level = model["par"][0], model["par"][4]
    levels = []
    for value in values[3:]:
        level += alpha * (value - level)
        levels.append(level)
    for part, windows in (("validation", task.validation), ("test", task.test)):
        by_hand = np.array(levels)[windows.origins - 3]
        np.testing.assert_allclose(found[part], np.column_stack([by_hand, by_hand]), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "season", "used"), [(120, 50, False), (400, 61, False), (120, 12, True)])
def test_auto_ets_uses_a_season_that_is_short_and_held_twice(monkeypatch, rows, season, used):
    pytest.importorskip("statsforecast")
    from statsforecast import models

    asked = []

    class Asked(models.AutoETS):
        def __init__(self, season_length):
            asked.append(season_length)
            super().__init__(season_length=season_length)

    monkeypatch.setattr(models, "AutoETS", Asked)
    data = walk(rows=rows, channels=1)
    auto_ets(make_task(Series("s", "y", ("y",), data.times, data.values, season), length=4))
    assert asked == [season if used else 1]


@pytest.mark.slow
def test_auto_ets_of_a_handful_of_rows_is_refused():
    pytest.importorskip("statsforecast")
    data = walk(rows=12, channels=1)
    with pytest.raises(DataError, match=r"6 rows of its training part .* leave out the baseline 'auto-ets'"):
        auto_ets(make_task(data, length=2, train=0.5))


def test_a_missing_library_is_named_with_its_extra_before_any_work(monkeypatch):
    for library in ("lightgbm", "statsforecast", "statsforecast.models"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("synaptic_pruning.tasks.forecasting.baselines._METHODS", {})  # any work would fail
    task = make_task(walk(), length=4)
    for name, library in LIBRARIES.items():
        with pytest.raises(ImportError, match=rf"^{library}.* install the extra: synaptic-pruning\[baselines\]$"):
            baseline_forecasts(task, ["ridge", name])


def test_an_unknown_name_and_a_long_horizon_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", np)  # present, whatever it is
    with pytest.raises(ValueError, match=r"names: 'arima' is no baseline; choose from \['persistence', "):
        baseline_forecasts(make_task(walk(), length=4), ["ridge", "arima"])
    with pytest.raises(ValueError, match=r"horizon=25: 'lightgbm' .* at most 24 steps; leave out this baseline"):
        baseline_forecasts(make_task(walk(rows=400), length=4, horizon=25), ["lightgbm"])


def test_a_step_without_any_known_target_is_refused():
    data = walk(rows=40, channels=1)
    values = data.values.copy()
    values[5:28] = np.nan  # training ends at 28: one window, origin 3, knows the first step alone
    values[4] = 51.0
    task = make_task(Series("s", "y", ("y",), data.times, values, 1), length=4, horizon=2)
    with pytest.raises(DataError, match="the train part has no observed 'y' that is 2 steps ahead"):
        ridge(task)
