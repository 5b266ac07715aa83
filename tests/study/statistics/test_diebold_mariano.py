"""Diebold and Mariano's test on numbers worked by hand, a re-computation, and simulated series."""

import math

import numpy as np
import pytest
from scipy import stats

from synaptic_pruning.study.statistics import diebold_mariano, over_series


@pytest.mark.parametrize(("horizon", "factor"), [(1, 7 / 8), (2, 5.25 / 8)])
def test_by_hand(horizon, factor):
    # Differences 3 1 -1 1 3 1 -1 1: mean 1, deviations 2 0 -2 0 2 0 -2 0, autocovariances 16/8, 0, -12/8.
    # Two lags with weights 2/3 and 1/3: 2 + 2 · (1/3) · (-1.5) = 1, over 8 steps 1/8, so the statistic is sqrt(8).
    # Harvey: (8 + 1 - 2h + h(h - 1)/8) / 8 is 7/8 for h = 1 and 5.25/8 for h = 2.
    other = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0])
    found = diebold_mariano(other + np.array([3, 1, -1, 1, 3, 1, -1, 1]), other, horizon)
    assert (found.steps, found.lags, found.difference) == (8, 2, 1)
    assert found.statistic == pytest.approx(math.sqrt(8 * factor))
    assert found.p_value == found.p_holm == pytest.approx(2 * stats.t(7).sf(math.sqrt(8 * factor)))


def recompute(d, horizon):
    """The same from the definition of Newey and West's variance, without a regression."""
    n, lags = len(d), max(horizon - 1, math.ceil(len(d) ** (1 / 3)))
    variance = 0.0
    for i in range(n):
        for j in range(max(0, i - lags), min(n, i + lags + 1)):
            variance += (1 - abs(i - j) / (lags + 1)) * (d[i] - d.mean()) * (d[j] - d.mean()) / n**2
    return d.mean() / math.sqrt(variance) * math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)


@pytest.mark.parametrize(("n", "horizon"), [(20, 1), (50, 4), (120, 12), (13, 12)])
def test_a_recomputation_from_the_definition(n, horizon):
    rng = np.random.default_rng(n)
    first, second = rng.gamma(2.0, size=(2, n))
    found = diebold_mariano(first, second, horizon)
    assert found.statistic == pytest.approx(recompute(first - second, horizon))
    assert found.p_value == pytest.approx(2 * stats.t(n - 1).sf(abs(found.statistic)))
    swapped = diebold_mariano(second, first, horizon)
    assert (swapped.statistic, swapped.p_value) == pytest.approx((-found.statistic, found.p_value))


def test_no_difference_and_a_certain_one():
    losses = np.array([0.5, 1.0, 2.0, 0.25])
    same = diebold_mariano(losses, losses)
    assert (same.statistic, same.p_value) == (0.0, 1.0)
    better = diebold_mariano(losses, losses + 1)
    assert (better.statistic, better.p_value) == (-math.inf, 0.0)


def test_holm_over_series_by_hand():
    rng = np.random.default_rng(4)
    losses = {
        name: (rng.gamma(2.0, size=80) + shift, rng.gamma(2.0, size=80))
        for name, shift in zip("abcd", [0, 0.3, 2, 0.5], strict=True)
    }
    found = over_series(losses)
    assert list(found) == list("abcd")
    running = 0.0
    for step, one in enumerate(sorted(found.values(), key=lambda one: one.p_value)):
        running = min(1.0, max(running, (4 - step) * one.p_value))
        assert one.p_holm == pytest.approx(running)
    assert {name: one.p_value for name, one in found.items()} == {
        n: diebold_mariano(*pair).p_value for n, pair in losses.items()
    }
    assert over_series({}) == {}


def alarms(draw, horizon, repeats=400):
    return sum(diebold_mariano(*draw(), horizon).p_value < 0.05 for _ in range(repeats))


def test_false_alarms_are_about_as_many_as_promised():
    rng = np.random.default_rng(7)
    independent = alarms(lambda: rng.gamma(2.0, size=(2, 400)), horizon=1)
    low, high = stats.binom(400, 0.05).interval(0.999)
    assert low <= independent <= high
    overlapping = alarms(
        lambda: [np.convolve(x, np.ones(4), "valid") for x in rng.gamma(2.0, size=(2, 403))], horizon=4
    )
    # Newey and West's weights underestimate the variance a little: some 8 in a hundred, where a t-test finds far more
    assert overlapping <= stats.binom(400, 0.10).ppf(0.999)
    naive = [np.convolve(x, np.ones(4), "valid") for x in rng.gamma(2.0, size=(800, 403))]
    naive_alarms = sum(stats.ttest_rel(a, b).pvalue < 0.05 for a, b in zip(naive[::2], naive[1::2], strict=True))
    assert naive_alarms > 2 * overlapping


def test_a_real_difference_is_found():
    rng = np.random.default_rng(8)
    assert alarms(lambda: (rng.gamma(2.0, size=400) + 0.5, rng.gamma(2.0, size=400)), 1, repeats=50) >= 45


@pytest.mark.parametrize(
    ("first", "second", "horizon", "message"),
    [
        ([1, 2, 3], [1, 2], 1, "two series of one length"),
        ([[1, 2, 3]], [[1, 2, 4]], 1, "two series of one length"),
        ([1, 2, 3], [1, 2, 4], 3, "below the 3 steps"),
        ([1, 2, 3], [1, 2, 4], 0, "at least 1"),
        ([1, 2], [1, 3], 1, "at least 3"),
        ([1, 2, np.nan], [1, 2, 4], 1, "must be finite"),
    ],
)
def test_nonsense_is_refused(first, second, horizon, message):
    with pytest.raises(ValueError, match=message):
        diebold_mariano(first, second, horizon)
