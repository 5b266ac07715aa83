"""The paper's own statistic: what its blocks are, and that they are not what they seem."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.statistics import PAPER_NOTE, block_means, friedman, vos2025_statistic

ARMS = ["none", "dropout", "synaptic"]
LENGTHS = [1, 3, 7, 14, 30, 60]


def runs(value, datasets=("a", "b"), models=("rnn", "lstm")):
    rows = [
        {"dataset": d, "model": m, "arm": a, "length": n, "horizon": 1, "seed": s, "mae": value(d, m, a, n, s)}
        for d in datasets
        for m in models
        for a in ARMS
        for n in LENGTHS
        for s in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_its_blocks_are_window_lengths_and_its_values_means_over_seeds():
    rng = np.random.default_rng(0)
    table = runs(lambda *_: rng.uniform(1, 2))
    found = vos2025_statistic(table)
    assert [(one.dataset, one.model) for one in found] == [("a", "rnn"), ("a", "lstm"), ("b", "rnn"), ("b", "lstm")]
    for one in found:
        own = table[(table["dataset"] == one.dataset) & (table["model"] == one.model)]
        columns = [
            [own[(own["arm"] == arm) & (own["length"] == length)]["mae"].mean() for length in LENGTHS] for arm in ARMS
        ]
        expected = stats.friedmanchisquare(*columns)
        assert one.test.blocks == 6
        assert (one.test.statistic, one.test.p_value) == pytest.approx(tuple(expected))
        assert list(one.test.ranks) == ARMS


def test_it_finds_significance_in_one_data_set_where_independent_blocks_have_none():
    # One accident of one series, seen through six windows: the arms keep their order at every length.
    table = runs(lambda d, m, a, n, s: 1 + ARMS.index(a) * 0.01 + n * 0.001, datasets=("a",), models=("rnn",))
    (found,) = vos2025_statistic(table)
    assert found.test.significant
    assert friedman(block_means(table)) is None
    assert "not independent" in PAPER_NOTE


def test_too_little_for_a_test():
    short = runs(lambda *_: 1.0)
    (found,) = vos2025_statistic(short[(short["length"] == 1) & (short["dataset"] == "a") & (short["model"] == "rnn")])
    assert found.test is None
