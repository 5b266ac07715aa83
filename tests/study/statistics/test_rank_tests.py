"""The statistics against hand-worked tables, SciPy, autorank and a brute-force enumeration."""

import itertools
import math
import warnings
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists, sampled_from
from scipy import stats
from statsmodels.stats.multitest import multipletests

from synaptic_pruning.study.statistics import (
    against,
    all_pairs,
    average_ranks,
    block_means,
    critical_difference,
    friedman,
    paired,
)
from synaptic_pruning.study.statistics.rank_tests import holm

ARMS = ["none", "dropout", "synaptic"]


def results(values, seeds=2, lengths=(7, 30)):
    """Rows whose mean over seeds and lengths is `values[dataset][arm]`."""
    rows = [
        {
            "dataset": dataset,
            "model": "rnn",
            "arm": arm,
            "length": length,
            "horizon": 1,
            "seed": seed,
            "mae": value + (seed - (seeds - 1) / 2) * 0.1,
            "status": "ok",
        }
        for dataset, arms in values.items()
        for arm, value in arms.items()
        for length in lengths
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def run(dataset, model, arm, mae, seed=0, length=7):
    return {
        "dataset": dataset,
        "model": model,
        "arm": arm,
        "length": length,
        "horizon": 1,
        "seed": seed,
        "mae": mae,
        "skill": 1 - mae,
        "status": "ok",
    }


def test_blocks_are_data_sets_and_values_means_over_seeds_and_lengths():
    values = {"a": dict(zip(ARMS, [1.0, 2.0, 3.0], strict=True)), "b": dict(zip(ARMS, [30.0, 20.0, 10.0], strict=True))}
    table = block_means(results(values))
    assert list(table.columns) == ARMS  # the order of appearance, not of the alphabet
    np.testing.assert_allclose(table.loc["a"], [1, 2, 3])
    np.testing.assert_allclose(table.loc["b"], [30, 20, 10])


def test_seeds_are_averaged_plainly_first_then_models_and_lengths_geometrically():
    # rnn: mean(1, 3) = 2; lstm: 8; so sqrt(2 · 8) = 4, not the mean over runs (1 + 3 + 8) / 3.
    table = pd.DataFrame([run("a", "rnn", "none", 1.0), run("a", "rnn", "none", 3.0, 1), run("a", "lstm", "none", 8.0)])
    assert block_means(table).loc["a", "none"] == pytest.approx(4)
    lengths = pd.DataFrame([run("a", "rnn", "none", 1.0), run("a", "rnn", "none", 9.0, length=30)])
    assert block_means(lengths).loc["a", "none"] == pytest.approx(3)


def test_a_model_with_large_errors_has_no_more_say_than_another():
    halves = [run("a", "rnn", "none", 2.0), run("a", "rnn", "synaptic", 1.0)]
    doubles = [run("a", "lstm", "none", 500.0), run("a", "lstm", "synaptic", 1000.0)]
    table = block_means(pd.DataFrame(halves + doubles))
    assert table.loc["a", "synaptic"] / table.loc["a", "none"] == pytest.approx(1)


def test_data_sets_of_one_station_are_one_block_whatever_their_units():
    values = {
        "co": {"none": 1.0, "synaptic": 0.5},
        "no2": {"none": 1e6, "synaptic": 2e6},
        "z": {"none": 1, "synaptic": 3},
    }
    runs = pd.DataFrame([run(d, "rnn", arm, v) for d, arms in values.items() for arm, v in arms.items()])
    table = block_means(runs, block_of={"co": "station", "no2": "station", "never run": "x"})
    assert list(table.index) == ["station", "z"]
    # the ratio of the block is the geometric mean of its members' ratios 1/2 and 2
    np.testing.assert_allclose(table["synaptic"] / table["none"], [1, 3])
    other_unit = runs.assign(mae=runs["mae"].where(runs["dataset"] != "co", runs["mae"] * 1e4))
    rescaled = block_means(other_unit, block_of={"co": "station", "no2": "station"})
    np.testing.assert_allclose(rescaled["synaptic"] / rescaled["none"], table["synaptic"] / table["none"])


def test_blocks_equal_a_brute_force_loop_and_keep_the_order():
    rng = np.random.default_rng(0)
    sets, models = ["z", "a", "m"], ["rnn", "gru"]
    grid = itertools.product(sets, models, ["s", "b", "n"], [7, 3], [0, 1, 2])
    runs = pd.DataFrame([run(d, m, a, rng.uniform(1, 9), s, n) for d, m, a, n, s in grid])
    table = block_means(runs)
    assert (list(table.index), list(table.columns)) == (sets, ["s", "b", "n"])
    for dataset, arm in itertools.product(table.index, table.columns):
        logs = []
        for model, length in itertools.product(models, [7, 3]):
            found = [
                r.mae
                for r in runs.itertuples()
                if (r.dataset, r.model, r.arm, r.length) == (dataset, model, arm, length)
            ]
            logs.append(math.log(sum(found) / len(found)))
        assert table.loc[dataset, arm] == pytest.approx(math.exp(sum(logs) / len(logs)))


def test_skill_may_be_negative_and_is_averaged_plainly():
    runs = pd.DataFrame([run("a", "rnn", "none", 1.5), run("a", "lstm", "none", 0.6)])
    assert block_means(runs, "skill").loc["a", "none"] == pytest.approx((-0.5 + 0.4) / 2)


def test_blocks_refuse_what_would_compare_different_runs():
    runs = pd.DataFrame([run("a", "rnn", "none", 1.0), run("a", "lstm", "none", 9.0), run("a", "rnn", "synaptic", 1.0)])
    with pytest.raises(ValueError, match=r"arm 'synaptic' has no mae for \('a', 'lstm', 7, 1\).*paired"):
        block_means(runs)
    with pytest.raises(ValueError, match=r"mae must be positive .* found 0\.0"):
        block_means(pd.DataFrame([run("a", "rnn", "none", 0.0)]))


def test_a_failed_run_leaves_with_its_partners_and_is_counted():
    table = results({"a": dict.fromkeys(ARMS, 1.0)})
    table.loc[0, "status"] = "diverged: the loss is not finite"
    kept, left_out = paired(table)
    assert left_out == 3
    assert len(kept) == len(table) - 3
    assert (kept.groupby(["length", "seed"])["arm"].nunique() == 3).all()


def test_a_data_set_without_one_complete_run_is_no_block():
    table = results({"a": dict.fromkeys(ARMS, 1.0), "b": dict.fromkeys(ARMS, 1.0)})
    table.loc[(table["dataset"] == "b") & (table["arm"] == "none"), "status"] = "failed: x"
    kept, _ = paired(table)
    assert list(block_means(kept).index) == ["a"]


def test_friedman_on_a_table_worked_by_hand():
    # Ranks by row: 1 2 3 / 1 2 3 / 1 3 2 / 2 1 3; rank sums 5, 8, 11.
    # chi2 = 12 / (4·3·4) · (25 + 64 + 121) - 3·4·4 = 52.5 - 48 = 4.5; F = 3 · 4.5 / (8 - 4.5) = 27 / 7.
    table = pd.DataFrame([[1, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]], columns=ARMS, dtype=float)
    result = friedman(table)
    assert result is not None
    assert result.ranks == {"none": 1.25, "dropout": 2.0, "synaptic": 2.75}
    assert result.statistic == pytest.approx(4.5)
    assert result.p_value == pytest.approx(np.exp(-4.5 / 2))  # chi-squared with 2 degrees of freedom
    assert result.f_statistic == pytest.approx(27 / 7)
    assert result.f_p_value == pytest.approx((1 + 2 * (27 / 7) / 6) ** -3)  # F(2, 6): (1 + 2F/d)^(-d/2)
    # Kendall's W from rank sums: 12 · ((5-8)² + 0 + (11-8)²) / (4² · (3³ - 3)) = 216 / 384.
    assert result.concordance == pytest.approx(216 / 384)


@pytest.mark.parametrize(("n", "k"), [(2, 3), (3, 3), (2, 4)])
def test_the_smallest_p_of_friedman_is_the_share_of_outcomes_in_which_all_blocks_agree(n, k):
    outcomes = list(itertools.product(itertools.permutations(range(k)), repeat=n))
    spread = [np.ptp(np.sum(rows, axis=0)) for rows in outcomes]
    agree = np.mean([value == n * (k - 1) for value in spread])  # best always best, worst always worst
    all_agree = np.mean([len(set(rows)) == 1 for rows in outcomes])
    result = friedman(pd.DataFrame([range(k)] * n, dtype=float))
    assert result.smallest_p == pytest.approx(all_agree)
    assert all_agree <= agree
    assert result.can_be_significant == result.significant == (all_agree < 0.05)


def test_autorank_agrees():
    from autorank import autorank

    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.uniform(1, 2, (14, 5)) - [0.3, 0, 0, 0, -0.1], columns=list("abcde"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about libraries it uses
        theirs = autorank(table, alpha=0.05, order="ascending", force_mode="nonparametric")
    ours = friedman(table)
    assert (theirs.omnibus, theirs.posthoc) == ("friedman", "nemenyi")
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.ranks == pytest.approx(theirs.rankdf["meanrank"].to_dict())
    assert critical_difference(5, 14) == pytest.approx(theirs.cd, rel=1e-4)


def test_friedman_with_ties_equals_scipy():
    table = pd.DataFrame([[1, 1, 3], [1, 2, 2], [4, 3, 5], [2, 2, 2]], columns=ARMS, dtype=float)
    expected = stats.friedmanchisquare(*table.to_numpy().T)
    result = friedman(table)
    assert result is not None
    assert (result.statistic, result.p_value) == pytest.approx(tuple(expected))


def test_friedman_edges():
    assert friedman(pd.DataFrame([[1.0, 2.0, 3.0]], columns=ARMS)) is None
    assert friedman(pd.DataFrame([[1.0, 2.0]] * 5, columns=ARMS[:2])) is None
    unanimous = friedman(pd.DataFrame([[1.0, 2.0, 3.0]] * 4, columns=ARMS))
    assert unanimous is not None
    assert unanimous.f_statistic == float("inf")
    assert unanimous.f_p_value == 0
    tied = friedman(pd.DataFrame([[1.0, 1.0, 1.0]] * 4, columns=ARMS))
    assert tied is not None
    assert tied.p_value == tied.f_p_value == 1
    assert average_ranks(pd.DataFrame([[1.0, 1.0, 1.0]], columns=ARMS)) == dict.fromkeys(ARMS, 2.0)


def exact_signed_rank(differences):
    """Two-sided p-value by trying every assignment of signs."""
    ranks = stats.rankdata(np.abs(differences))
    observed = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    signs = itertools.product([0, 1], repeat=len(ranks))
    extreme = [min(np.dot(s, ranks), ranks.sum() - np.dot(s, ranks)) <= observed for s in signs]
    return np.mean(extreme)


def test_wilcoxon_is_the_exact_test_on_log_ratios():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.uniform(1, 2, (9, 3)) * rng.uniform(1, 1e6, (9, 1)), columns=ARMS)
    for pair in against(table, "synaptic"):
        logs = np.log(table["synaptic"] / table[pair.other]).to_numpy()
        assert pair.p_value == pytest.approx(exact_signed_rank(logs))
        assert pair.difference == pytest.approx(np.median(np.exp(logs) - 1))
        assert pair.low <= pair.difference <= pair.high
        assert (pair.wins, pair.ties, pair.losses) == ((logs < 0).sum(), 0, (logs > 0).sum())


def test_units_of_a_data_set_do_not_matter():
    table = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, (8, 3)), columns=ARMS)
    scaled = table.mul(10.0 ** np.arange(8), axis=0)
    for plain, other in zip(against(table, "synaptic"), against(scaled, "synaptic"), strict=True):
        assert plain.p_value == pytest.approx(other.p_value)
        assert plain.difference == pytest.approx(other.difference)


@given(lists(sampled_from([0.0, 1e-9, 0.01, 0.02, 0.3, 1.0]) | floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values):
    with patch("gc.collect"):  # theirs collects garbage at every call, which takes a tenth of a second here
        expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_array_equal(holm(p_values), expected)


def test_holm_by_hand():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.uniform(1, 1.2, (10, 4)), columns=["none", "dropout", "mc-dropout", "synaptic"])
    table["synaptic"] -= 0.08
    pairs = against(table, "synaptic")
    ordered = sorted(pairs, key=lambda pair: pair.p_value)
    running = 0.0
    for step, pair in enumerate(ordered):
        running = min(1.0, max(running, (3 - step) * pair.p_value))
        assert pair.p_holm == pytest.approx(running)


def test_all_pairs_are_the_single_comparisons_with_holm_over_all_of_them():
    rng = np.random.default_rng(2)
    table = pd.DataFrame(rng.uniform(1, 1.3, (11, 4)), columns=list("abcd"))
    table["d"] -= 0.2
    pairs = all_pairs(table)
    assert [(pair.arm, pair.other) for pair in pairs] == list(itertools.combinations("abcd", 2))
    running = 0.0
    for step, pair in enumerate(sorted(pairs, key=lambda pair: pair.p_value)):
        logs = np.log(table[pair.arm] / table[pair.other])
        assert pair.p_value == pytest.approx(stats.wilcoxon(logs).pvalue)
        running = min(1.0, max(running, (6 - step) * pair.p_value))
        assert pair.p_holm == pytest.approx(running)
        assert pair.smallest_p == pytest.approx(6 * 2 / 2**11)
    assert {pair.arm for pair in pairs if pair.significant} == set("abc")
    assert all_pairs(table[["a"]]) == []


@pytest.mark.parametrize(("n", "possible"), [(1, False), (3, False), (6, False), (7, True), (12, True)])
def test_too_few_data_sets_can_never_be_significant(n, possible):
    table = pd.DataFrame({"none": 2.0, "dropout": 2.1, "mc-dropout": 2.2, "synaptic": 1.0}, index=range(n))
    table["synaptic"] += np.arange(n) * 0.01  # a clean sweep: the best case there is
    for pair in against(table, "synaptic"):
        assert pair.can_be_significant is possible
        assert pair.significant is possible
        assert pair.p_holm == pytest.approx(pair.smallest_p)


def test_all_ties_are_no_evidence():
    pair, _ = against(pd.DataFrame(1.0, index=range(9), columns=ARMS), "synaptic")
    assert (pair.p_value, pair.ties, pair.significant) == (1.0, 9, False)


def test_one_data_set_has_no_interval():
    pair, _ = against(pd.DataFrame([[1.0, 2.0, 1.5]], columns=ARMS), "synaptic")
    assert pair.low is None
    assert pair.high is None
    assert pair.difference == pytest.approx(0.5)
