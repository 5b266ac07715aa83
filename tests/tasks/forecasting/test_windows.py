"""Windows against a plain loop, purged parts, equal origins, and nothing from the future."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synaptic_pruning.tasks.forecasting import (
    MODELS,
    DataError,
    Series,
    build_model,
    engineer,
    make_task,
    persistence,
    predict,
    train,
    windows,
)


def series(rows=120, channels=2, seed=0, missing=0.0, season=1):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, channels)).cumsum(0)
    values[generator.random(values.shape) < missing] = np.nan
    columns = tuple(f"c{number}" for number in range(channels))
    return Series("walk", "c0", columns, np.arange(rows), values, season)


def parts(task):
    return task.train, task.validation, task.test


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(60, 150),
    channels=st.integers(1, 3),
    length=st.integers(1, 9),
    spare=st.integers(0, 4),
    horizon=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.2]),
    target=st.sampled_from(["delta", "level"]),
    seed=st.integers(0, 5),
)
def test_windows_equal_a_plain_loop(rows, channels, length, spare, horizon, missing, target, seed):
    data = series(rows, channels, seed, missing)
    task = make_task(data, length=length, horizon=horizon, longest=length + spare, predict=target)
    validation_start, test_start = round(rows * 0.7), round(rows * 0.8)

    known = [data.values[:validation_start, c][~np.isnan(data.values[:validation_start, c])] for c in range(channels)]
    mean, deviation = [v.mean() for v in known], [v.std() for v in known]
    scaled = np.empty((rows, channels))
    for c in range(channels):
        last = mean[c]  # nothing seen yet
        for t in range(rows):
            if not np.isnan(data.values[t, c]):
                last = data.values[t, c]
            scaled[t, c] = (last - mean[c]) / deviation[c]

    origins = {"train": [], "validation": [], "test": []}
    for origin in range(length + spare - 1, rows - horizon):
        first, last = origin + 1, origin + horizon
        if last < validation_start:
            origins["train"].append(origin)
        elif first >= validation_start and last < test_start:
            origins["validation"].append(origin)
        elif first >= test_start:
            origins["test"].append(origin)

    changes = [
        (data.values[o + k, 0] - mean[0]) / deviation[0] - scaled[o, 0]
        for o in origins["train"]
        for k in range(1, horizon + 1)
    ]
    unit = np.sqrt(np.nanmean(np.square(changes))) if target == "delta" else 1.0
    assert task.unit == pytest.approx(unit)

    for name, part in zip(origins, parts(task), strict=True):
        assert part.origins.tolist() == origins[name]
        assert part.inputs.shape == (len(part), length, channels)
        for row, origin in enumerate(origins[name]):
            np.testing.assert_allclose(part.inputs[row], scaled[origin - length + 1 : origin + 1], atol=1e-5)
            level = (data.values[origin + 1 : origin + 1 + horizon, 0] - mean[0]) / deviation[0]
            expected = (level - scaled[origin, 0]) / unit if target == "delta" else level
            np.testing.assert_allclose(part.targets[row], expected, atol=1e-5)
            assert part.last[row].item() == pytest.approx(scaled[origin, 0], abs=1e-5)
            truth = data.values[origin + 1 : origin + 1 + horizon, 0]
            np.testing.assert_array_equal(task.truth(part)[row], truth)


@pytest.mark.parametrize("target", ["delta", "level"])
def test_perfect_outputs_come_back_as_the_truth(target):
    task = make_task(series(missing=0.1), length=5, horizon=3, predict=target)
    for part in parts(task):
        np.testing.assert_allclose(task.to_units(part.targets, part), task.truth(part), rtol=1e-5, atol=1e-5)


def test_inputs_are_one_strided_view():
    task = make_task(series(), length=30)
    addresses = {part.inputs.untyped_storage().data_ptr() for part in parts(task)}
    assert len(addresses) == 1
    assert task.train.inputs.untyped_storage().nbytes() == 120 * 2 * 4


@pytest.mark.parametrize("horizon", [1, 5])
def test_no_target_of_an_earlier_part_lies_in_a_later_one(horizon):
    task = make_task(series(), length=4, horizon=horizon)
    ends = [part.origins[-1] + horizon for part in parts(task)]
    starts = [part.origins[0] + 1 for part in parts(task)]
    assert ends[0] < task.cuts[0] == starts[1]
    assert ends[1] < task.cuts[1] == starts[2]
    assert ends[2] == 119  # nothing dropped at the end


def test_every_length_has_the_same_targets():
    tasks = [make_task(series(), length=length, longest=14, horizon=2) for length in (1, 3, 7, 14)]
    for task in tasks[1:]:
        for part, reference in zip(parts(task), parts(tasks[0]), strict=True):
            np.testing.assert_array_equal(part.origins, reference.origins)
            assert torch.equal(part.targets, reference.targets)


def test_a_channel_that_stands_still_in_training_reads_zero():
    data = series()
    data.values[:84, 1] = 3.0
    assert make_task(data, length=4).test.inputs[..., 1].abs().max() == 0


BAD = {
    "too short": (
        series(12),
        {"length": 10},
        "too short: no window of 10 rows and horizon 1 fits its training",
    ),
    "no room to test": (series(30), {"length": 3, "horizon": 7}, "fits its validation part"),
    "zero length": (series(), {"length": 0}, "length=0"),
    "longest too short": (series(), {"length": 5, "longest": 4}, "longest=4 is shorter than length=5"),
    "unknown target form": (series(), {"length": 5, "predict": "change"}, "use 'delta' or 'level'"),
    "no test": (series(), {"length": 5, "train": 0.9, "validation": 0.1}, "leave a share for the test"),
}


@pytest.mark.parametrize(("data", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input(data, options, message):
    with pytest.raises(ValueError, match=message):
        make_task(data, **options)


def test_target_constant_in_training_or_unknown_in_test_is_refused():
    flat = series()
    flat.values[:84, 0] = 2.0
    with pytest.raises(DataError, match="does not vary in its training part"):
        make_task(flat, length=4)
    blind = series()
    blind.values[96:, 0] = np.nan
    with pytest.raises(DataError, match="test part has no observed value"):
        make_task(blind, length=4)


# ---- the leak test: change every value after the cut, and nothing before it may move by a bit ----


def rewritten(data, cut):
    """The same series with every value from row ``cut`` on replaced, missing ones and outliers among them."""
    generator = np.random.default_rng(99)
    values = data.values.copy()
    values[cut:] = 1e3 * generator.standard_normal(values[cut:].shape) + 500
    values[cut:][generator.random(values[cut:].shape) < 0.3] = np.nan
    return Series(data.name, data.target, data.columns, data.times, values, data.season)


def outcome(data, model_name):
    """Everything that is fixed before the test part: as a list of arrays."""
    task = make_task(data, length=6, horizon=2)
    torch.manual_seed(0)
    sizes = {"channels": 2, "length": 6, "horizon": 2, "dropout": 0.1}
    model = build_model(model_name, **sizes, predict=task.predict, unit=task.unit)
    run = train(model, task, epochs=3, seed=0, patience=1)
    fixed = [task.scaler.mean, task.scaler.scale, task.unit, run.best_epoch, run.steps]
    fixed += [row[key] for row in run.history for key in ("train_loss", "validation_mae")]
    fixed += [value.numpy() for value in run.best_state.values()]
    for part in (task.train, task.validation):
        fixed += [part.inputs.numpy(), part.targets.numpy(), task.to_units(predict(model, part), part)]
    # The first test forecast is made before any test value is known.
    fixed += [task.test.inputs[:1].numpy(), task.to_units(predict(model, task.test), task.test)[:1]]
    return [np.asarray(value) for value in fixed]


def leaks(model_name):
    data = series(missing=0.05)
    data.values[94:96] = np.nan  # what fills these rows must come from before them
    before, after = outcome(data, model_name), outcome(rewritten(data, 96), model_name)
    return not all(one.tobytes() == other.tobytes() for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("model_name", MODELS)
def test_values_after_the_cut_move_nothing_before_it(model_name):
    assert not leaks(model_name)


def test_the_leak_test_catches_a_scaler_fitted_on_everything(monkeypatch):
    honest = windows.Scaler.fit.__func__

    def leaking(cls, rows):
        whole = rows.base if rows.base is not None else rows  # the training rows are a slice of the whole series
        return honest(cls, whole)

    monkeypatch.setattr(windows.Scaler, "fit", classmethod(leaking))
    assert leaks("rnn")


def test_the_leak_test_catches_filling_from_the_future(monkeypatch):
    honest = windows.carry_forward
    monkeypatch.setattr(windows, "carry_forward", lambda values, first: honest(values[::-1], first)[::-1])
    assert leaks("rnn")


def test_values_after_the_first_cut_move_nothing_in_training():
    data = series(missing=0.05)
    tasks = [make_task(one, length=6) for one in (data, rewritten(data, 84))]
    assert tasks[0].unit == tasks[1].unit
    assert tasks[0].scaler.mean.tobytes() == tasks[1].scaler.mean.tobytes()
    assert tasks[0].train.inputs.numpy().tobytes() == tasks[1].train.inputs.numpy().tobytes()
    assert tasks[0].train.targets.numpy().tobytes() == tasks[1].train.targets.numpy().tobytes()


@pytest.mark.parametrize("cut", [84, 96])  # the first row of the validation part, of the test part
def test_engineered_inputs_see_nothing_beyond_a_cut(cut):
    data = series(missing=0.05, season=7)
    one, other = (make_task(engineer(data), length=6, horizon=2) for data in (data, rewritten(data, cut)))
    assert one.train.inputs.shape[-1] > 140
    assert one.unit == other.unit
    assert one.scaler.mean.tobytes() == other.scaler.mean.tobytes()
    assert one.scaler.scale.tobytes() == other.scaler.scale.tobytes()
    seen = [(one.train, other.train)]
    if cut == 96:
        seen.append((one.validation, other.validation))
        assert torch.equal(one.test.inputs[0], other.test.inputs[0])
    for part, its in seen:
        assert part.inputs.numpy().tobytes() == its.inputs.numpy().tobytes()
        assert part.targets.numpy().tobytes() == its.targets.numpy().tobytes()
    assert not torch.equal(one.test.inputs[1:], other.test.inputs[1:])
    assert all(part.inputs.isfinite().all() for part in parts(one))


@pytest.mark.parametrize("model_name", MODELS)
def test_a_horizon_of_a_season_for_every_model(model_name):
    rows = np.arange(300)
    hours = Series("hours", "y", ("y",), rows, np.sin(rows * np.pi / 12)[:, None] + rows[:, None] / 100, season=24)
    task = make_task(engineer(hours), length=24, horizon=hours.season)
    model = build_model(model_name, channels=task.test.inputs.shape[-1], length=24, horizon=24, unit=task.unit)
    run = train(model, task, epochs=4, seed=0)
    forecasts = task.to_units(predict(model, task.test), task.test)
    assert run.status == "ok"
    assert forecasts.shape == task.truth(task.test).shape == (len(task.test), 24)
    # The truth of an origin is the next 24 rows, in order.
    np.testing.assert_array_equal(task.truth(task.test)[0], hours.values[task.test.origins[0] + 1 :][:24, 0])
    standing_still = np.abs(persistence(task, task.test) - task.truth(task.test)).mean()
    assert np.abs(forecasts - task.truth(task.test)).mean() < standing_still
