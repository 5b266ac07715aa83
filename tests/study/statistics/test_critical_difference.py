"""Nemenyi's test against the published critical values and tables worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from synaptic_pruning.study.statistics import average_ranks, cliques, critical_difference, nemenyi

# Demšar (2006), table 5(a): critical values q(0.05) and q(0.10) for k = 2 ... 10.
Q_05 = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
Q_10 = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]


@pytest.mark.parametrize(("alpha", "quantiles"), [(0.05, Q_05), (0.10, Q_10)])
def test_the_published_table(alpha, quantiles):
    for k, q in enumerate(quantiles, start=2):
        assert critical_difference(k, 17, alpha) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 17)), abs=6e-4)


@pytest.mark.parametrize(("n", "expected"), [(5, 2.10), (8, 1.66), (10, 1.48), (15, 1.21)])
def test_four_arms(n, expected):
    assert critical_difference(4, n) == pytest.approx(expected, abs=0.005)


def test_two_arms_by_hand():
    # Ranks 2 and 1 on all of n = 16: z = 1 / sqrt(2·3 / (6·16)) = 4, two-sided normal.
    table = pd.DataFrame({"none": np.arange(2.0, 18), "synaptic": np.arange(1.0, 17)})
    assert nemenyi(table).loc["none", "synaptic"] == pytest.approx(2 * norm.sf(4), rel=1e-6)


def test_p_values_and_the_critical_difference_say_the_same():
    rng = np.random.default_rng(0)
    for n in (4, 9, 20):
        table = pd.DataFrame(rng.uniform(1, 2, (n, 5)) + np.arange(5) * 0.2, columns=list("abcde"))
        ranks, p_values = average_ranks(table), nemenyi(table)
        assert (p_values.to_numpy() == p_values.to_numpy().T).all()
        for first in ranks:
            for second in ranks:
                apart = abs(ranks[first] - ranks[second]) > critical_difference(5, n)
                assert (p_values.loc[first, second] < 0.05) == apart


@given(st.lists(st.integers(2, 16), min_size=2, max_size=8), st.integers(0, 10))
def test_groups_are_all_maximal_sets_of_close_arms(halves, difference):
    ranks = {f"arm{i}": value / 2 for i, value in enumerate(halves)}
    subsets = [[a for i, a in enumerate(ranks) if mask >> i & 1] for mask in range(1 << len(ranks))]
    close = [frozenset(s) for s in subsets if s and max(map(ranks.get, s)) - min(map(ranks.get, s)) <= difference / 2]
    maximal = {s for s in close if len(s) > 1 and not any(s < other for other in close)}
    found = cliques(ranks, difference / 2)
    assert {frozenset(group) for group in found} == maximal
    assert len(found) == len(maximal)
    for group in found:
        assert [ranks[arm] for arm in group] == sorted(ranks[arm] for arm in group)


@pytest.mark.parametrize("bad", [(1, 9, 0.05), (3, 1, 0.05), (3, 9, 0.0), (3, 9, 1.0)])
def test_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match=r"two arms|between 0 and 1"):
        critical_difference(*bad)
