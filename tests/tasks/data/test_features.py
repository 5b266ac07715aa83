"""Engineered inputs: worked out by hand, against plain loops and SciPy, and blind to the future to the last bit."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from synaptic_pruning.tasks.forecasting import COVARIATES, DataError, Series, engineer
from synaptic_pruning.tasks.forecasting.data import features


def series(values, times=None, season=1):
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    names = tuple("yabcdef"[: values.shape[1]])
    return Series("walk", "y", names, np.arange(len(values)) if times is None else times, values, season, "as read")


def walk(rows=150, channels=1, seed=0, missing=0.0, **options):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, channels)).cumsum(0)
    values[generator.random(values.shape) < missing] = np.nan
    return series(values, **options)


def by_name(data):
    many = engineer(data)
    return dict(zip(many.columns, many.values.T, strict=True))


BY_HAND = {  # the last row of 3, 1, 4, 1, 5, 9, 2; the window of three is 5, 9, 2
    "y": 2,
    "y lag 1": 9,
    "y lag 5": 1,
    "y difference 1": 2 - 9,
    "y difference 3": 2 - 1,
    "y mean 3": 16 / 3,
    "y deviation 3": math.sqrt((1 / 9 + 121 / 9 + 100 / 9) / 2),
    "y minimum 3": 2,
    "y minimum 7": 1,
    "y maximum 3": 9,
    "y rank 3": 1 / 3,
    "y rank 7": 3 / 7,
    # Deviations from 16/3 are -1/3, 11/3, -10/3: (n sqrt(n - 1) / (n - 2)) sum of cubes / (sum of squares)^1.5.
    "y skewness 3": 3 * math.sqrt(2) * ((-1 + 1331 - 1000) / 27) / ((1 + 121 + 100) / 9) ** 1.5,
    "y exponential mean 3": (2 + 9 / 2 + 5 / 4 + 1 / 8 + 4 / 16 + 1 / 32 + 3 / 64) / (2 - 1 / 64),
}


@pytest.mark.parametrize(("name", "value"), BY_HAND.items())
def test_features_by_hand(name, value):
    assert by_name(series([3, 1, 4, 1, 5, 9, 2]))[name][-1] == pytest.approx(value, rel=1e-12)


def test_every_feature_equals_a_plain_loop():
    data = walk(rows=70, missing=0.1, season=12)
    column, last = [], math.nan
    for value in data.values[:, 0]:
        last = last if math.isnan(value) else value
        column.append(last)
    column, found = np.array(column), by_name(data)
    checked = {"y"}
    for name, got in found.items():
        kind, _, size = name.removeprefix("y ").rpartition(" ")
        rows = [plain(kind, column[: row + 1], int(size)) if name != "y" else data.values[row, 0] for row in range(70)]
        np.testing.assert_allclose(got, rows, rtol=1e-9, atol=1e-9, err_msg=name)
        checked.add(name)
    assert checked == set(found)
    assert set(found) >= {"y lag 11", "y lag 12", "y difference 12", "y rank 12", "y exponential mean 12"}


def plain(kind, past, size):
    """The last row of a feature of the values up to now."""
    enough = len(past) > size if kind in ("lag", "difference") else len(past) >= size
    if not enough:
        return math.nan
    if kind == "lag":
        return past[-1 - size]
    if kind == "difference":
        return past[-1] - past[-1 - size]
    if kind == "exponential mean":
        weights = ((size - 1) / (size + 1)) ** np.arange(len(past))[::-1]
        return np.average(past, weights=weights)
    window = past[-size:]
    return {
        "mean": np.mean,
        "deviation": lambda values: np.std(values, ddof=1),
        "minimum": np.min,
        "maximum": np.max,
        "rank": lambda values: stats.rankdata(values)[-1] / size,
        "skewness": lambda values: stats.skew(values, bias=False) if np.ptp(values) > 0 else 0.0,
    }[kind](window)


def test_a_feature_is_missing_until_there_is_enough_history_and_never_after():
    data = walk(rows=120, missing=0.2)
    data.values[:5] = np.nan
    data.values[5] = 1.0
    for name, column in by_name(data).items():
        if name != "y":
            first = np.flatnonzero(~np.isnan(column))[0]
            assert not np.isnan(column[first:]).any(), name
            size = int(name.rpartition(" ")[2])
            assert first == 5 + size - (not name.startswith(("y lag", "y difference"))), name


def test_a_season_makes_a_lag_and_a_window():
    def with_season(season):
        return set(engineer(walk(season=season)).columns)

    assert with_season(52) - with_season(1) >= {"y lag 51", "y lag 52", "y difference 52", "y mean 52"}
    assert "y mean 96" not in with_season(52)
    for season in (1, 24, 1440):  # none, a window already, too long
        assert "y mean 96" in with_season(season)
    assert with_season(1440) == with_season(1)
    assert {len(engineer(walk(season=season)).columns) for season in (2, 12, 400)} <= set(range(74, 77))


def test_what_is_there_stays_and_the_first_covariates_are_treated_alike():
    data = walk(channels=6, missing=0.1)
    many = engineer(data)
    assert COVARIATES == 3
    assert many.columns[:4] == ("y", "a", "b", "c")
    np.testing.assert_array_equal(many.values[:, :4], data.values[:, :4])
    assert not [name for name in many.columns if name.startswith(("d", "e"))]
    assert (many.name, many.target, many.season, many.reading) == ("walk", "y", 1, "as read")
    assert many.times is data.times
    assert 300 <= len(many.columns) <= 320
    assert len(set(many.columns)) == len(many.columns)
    swapped = replace(data, values=data.values[:, [1, 0, 2, 3, 4, 5]])
    np.testing.assert_array_equal(by_name(swapped)["y skewness 14"], by_name(data)["a skewness 14"])


STEPS = {
    "minutes": (np.arange("2024-01-01", "2024-01-04", 15, dtype="datetime64[m]"), {"hour"}),
    "hours, less than two days": (np.arange("2024-01-01", "2024-01-02T20", dtype="datetime64[h]"), set()),
    "hours, three weeks": (np.arange("2024-01-01", "2024-01-22", dtype="datetime64[h]"), {"hour", "weekday"}),
    "days": (np.arange("2024-01-01", "2024-04-01", dtype="datetime64[D]"), {"weekday"}),
    "days of three years": (np.arange("2021-01-01", "2024-01-01", dtype="datetime64[D]"), {"weekday", "year"}),
    "weeks": (np.arange("2021-01-01", "2024-01-01", 7, dtype="datetime64[D]"), {"year"}),
    "months": (np.arange("2010-01", "2024-01", dtype="datetime64[M]"), {"year"}),
    "years": (np.arange("1900", "2024", dtype="datetime64[Y]"), set()),
}


@pytest.mark.parametrize(("times", "cycles"), STEPS.values(), ids=STEPS)
def test_cycles_are_there_where_they_turn(times, cycles):
    data = walk(len(times), times=times.astype("datetime64[ns]"))
    names = {name for name in engineer(data).columns if name.endswith(("sine", "cosine"))}
    assert names == {f"{cycle} {wave}" for cycle in cycles for wave in ("sine", "cosine")}


def test_the_calendar_by_hand():
    times = np.arange("2023-01-01", "2025-01-01", 6, dtype="datetime64[h]").astype("datetime64[ns]")
    found = by_name(walk(len(times), times=times))
    at = {str(time)[:13]: row for row, time in enumerate(times)}

    def place(cycle, time):
        sine, cosine = (found[f"{cycle} {wave}"][at[time]] for wave in ("sine", "cosine"))
        return math.atan2(sine, cosine) / (2 * math.pi) % 1

    assert place("hour", "2024-05-07T06") == pytest.approx(1 / 4)
    assert place("hour", "2024-05-07T18") == pytest.approx(3 / 4)
    assert found["weekday sine"][at["2024-05-06T12"]] == pytest.approx(0)  # a Monday
    assert place("weekday", "2024-05-07T00") == pytest.approx(1 / 7)
    assert place("weekday", "2024-05-12T18") == pytest.approx(6 / 7)
    assert place("year", "2024-03-01T00") == pytest.approx(60 / 366)  # a leap year
    assert place("year", "2023-03-01T12") == pytest.approx(59.5 / 365)


def rewritten(data, now, size=1.0, missing=0.0):
    """The same series with every value from row ``now`` on another one."""
    generator = np.random.default_rng(100)
    values = data.values.copy()
    values[now:] = size * generator.standard_normal(values[now:].shape) + 5 * size
    values[now:][generator.random(values[now:].shape) < missing] = np.nan
    return replace(data, values=values)


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(60, 140),
    share=st.floats(0.05, 0.95),
    channels=st.integers(1, 2),
    season=st.sampled_from([1, 4, 24, 30]),
    missing=st.sampled_from([0.0, 0.2]),
    size=st.sampled_from([1.0, 1e-9, 1e9]),
    seed=st.integers(0, 9),
)
def test_the_future_moves_no_bit(rows, share, channels, season, missing, size, seed):
    now = max(2, round(rows * share))
    times = (np.datetime64("2024-01-01") + np.arange(rows)).astype("datetime64[ns]")
    data = walk(rows, channels, seed, missing, times=times, season=season)
    before, after = engineer(data), engineer(rewritten(data, now, size, missing))
    assert before.columns == after.columns
    assert before.values[:now].tobytes() == after.values[:now].tobytes()
    # A series that ends now: only the cycles of the calendar may be fewer, which depend on the times.
    try:
        ended = engineer(replace(data, times=times[:now], values=data.values[:now]))
    except DataError:  # nothing observed yet, or nothing but one value
        return
    known = [before.columns.index(name) for name in ended.columns]
    assert np.ascontiguousarray(before.values[:now, known]).tobytes() == np.ascontiguousarray(ended.values).tobytes()


def test_a_lead_would_be_seen(monkeypatch):
    data = walk()
    monkeypatch.setattr(features, "_LAGS", (1, -1))
    before, after = engineer(data), engineer(rewritten(data, 100))
    differ = (np.nan_to_num(before.values[:100]) != np.nan_to_num(after.values[:100])).any(0)
    assert [name for name, moved in zip(before.columns, differ, strict=True) if moved] == ["y lag -1"]


def test_an_overflow_is_refused_by_the_feature_s_name():
    data = walk(50)
    data.values[20:23, 0] = 1e200
    data.values[23, 0] = -1e200
    with pytest.raises(DataError, match="column 'y deviation 3' is infinite in row"):
        engineer(data)
