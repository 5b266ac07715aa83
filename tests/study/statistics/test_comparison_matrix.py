"""The comparison matrix: entries by plain SciPy, and none of them changes when an arm joins."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.statistics import comparison_matrix

ARMS = ["none", "dropout", "pruned"]


def errors(arms=ARMS, blocks=14):
    rng = np.random.default_rng(0)
    units = 10.0 ** rng.integers(-3, 6, (blocks, 1))
    return pd.DataFrame(units * np.exp(rng.normal(0, 0.1, (blocks, len(arms)))), columns=arms)


def test_every_entry_is_that_of_plain_scipy():
    table = errors()
    table.loc[3, "pruned"] = table.loc[3, "none"]
    matrix = comparison_matrix(table)
    assert (matrix.blocks, len(matrix.entries)) == (14, 6)
    for (arm, other), entry in matrix.entries.items():
        ratio = (table[arm] / table[other]).to_numpy()
        assert entry.difference == pytest.approx(math.exp(np.log(ratio).mean()) - 1)
        assert (entry.wins, entry.ties, entry.losses) == ((ratio < 1).sum(), (ratio == 1).sum(), (ratio > 1).sum())
        assert entry.p_value == pytest.approx(stats.wilcoxon(np.log(ratio)).pvalue)
    assert matrix.entries["pruned", "none"].ties == 1


def test_the_order_is_that_of_geometric_means_whatever_the_units():
    table = errors()
    order = list(comparison_matrix(table).arms)
    assert order == sorted(ARMS, key=lambda arm: stats.gmean(table[arm]))
    rescaled = table.mul(np.random.default_rng(1).uniform(0.001, 1000, len(table)), axis=0)
    assert list(comparison_matrix(rescaled).arms) == order


def test_no_entry_changes_when_an_arm_joins():
    table = errors()
    before = comparison_matrix(table)
    # Arms that turn average ranks around: close behind one arm everywhere.
    joined = table.assign(near=table["none"] * 1.0001, far=table["pruned"] * 3, broken=1e9)
    after = comparison_matrix(joined)
    assert {pair: after.entries[pair] for pair in before.entries} == before.entries
    assert [arm for arm in after.arms if arm in ARMS] == list(before.arms)


def test_one_arm_or_no_block_is_refused():
    with pytest.raises(ValueError, match=r"at least two arms to compare, has \['none'\]"):
        comparison_matrix(errors()[["none"]])
    with pytest.raises(ValueError, match="at least one block"):
        comparison_matrix(errors().head(0))
