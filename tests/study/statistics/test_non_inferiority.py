"""Non-inferiority against a count of all sign patterns and tables whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from synaptic_pruning.study.statistics import non_inferior


def exact(ratios, margin):
    """P(rank sum of the positive differences is as small or smaller) over all assignments of signs."""
    shifted = np.log(ratios) - np.log(1 + margin)
    ranks = rankdata(np.abs(shifted))
    observed = ranks[shifted > 0].sum()
    return np.mean([np.dot(signs, ranks) <= observed + 1e-9 for signs in itertools.product([0, 1], repeat=len(ranks))])


@pytest.mark.parametrize("margin", [0.0, 0.005, 0.02])
def test_it_is_the_exact_one_sided_test_of_the_shifted_ratios(margin):
    ratios = np.exp(np.random.default_rng(1).normal(0.0, 0.02, 11))
    units = 10.0 ** np.arange(11)
    found = non_inferior(pd.DataFrame({"none": units, "synaptic": units * ratios}), "synaptic", "none", margin)
    assert found.p_value == pytest.approx(exact(ratios, margin))
    assert found.difference == pytest.approx(np.median(ratios) - 1)
    assert (found.blocks, found.margin) == (11, margin)


def test_equal_arms_are_not_inferior_but_not_superior_either():
    table = pd.DataFrame({"none": [1.0, 2.0, 3.0, 4.0, 5.0], "identical": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = non_inferior(table, "identical", "none")
    assert found.p_value == found.smallest_p == 1 / 32
    assert found.established
    assert non_inferior(table, "identical", "none", margin=0.0).p_value == 1.0


@pytest.mark.parametrize(("ratio", "established"), [(1.004, True), (1.006, False), (0.9, True)])
def test_the_margin_divides(ratio, established):
    base = np.arange(1.0, 13)
    table = pd.DataFrame({"none": base, "synaptic": base * ratio * (1 + 1e-6 * base)})
    assert non_inferior(table, "synaptic", "none").established is established


@pytest.mark.parametrize(("n", "possible"), [(1, False), (4, False), (5, True)])
def test_too_few_data_sets_can_never_establish_it(n, possible):
    table = pd.DataFrame({"none": 2.0, "synaptic": 1.0 + np.arange(n) / 10})
    found = non_inferior(table, "synaptic", "none")
    assert found.p_value == pytest.approx(found.smallest_p)
    assert found.can_be_established is found.established is possible


def test_nonsense_is_refused():
    table = pd.DataFrame({"none": [1.0], "synaptic": [1.0]})
    with pytest.raises(ValueError, match=r"'dropout' is no column of the table; choose from \['none', 'synaptic'\]"):
        non_inferior(table, "synaptic", "dropout")
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin: must be a number of at least 0"):
            non_inferior(table, "synaptic", "none", margin)
    with pytest.raises(ValueError, match="at least one block"):
        non_inferior(table.head(0), "synaptic", "none")
