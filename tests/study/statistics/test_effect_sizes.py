"""Effect sizes against brute force, SciPy's test, numbers by hand and a second way to the posterior."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.statistics import (
    bayesian_signed_rank,
    effect,
    effects_by_dataset,
    hodges_lehmann,
    log_ratios,
)


def table_of(logs):
    units = 10.0 ** np.arange(len(logs))
    return pd.DataFrame({"none": units, "synaptic": units * np.exp(logs)})


@pytest.mark.parametrize("n", [1, 2, 5, 9, 30])
def test_the_estimate_is_the_median_of_all_means_of_two(n):
    logs = np.random.default_rng(n).normal(-0.02, 0.05, n)
    walsh = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2)]
    assert hodges_lehmann(logs)[0] == pytest.approx(np.median(walsh))
    assert effect(table_of(logs), "synaptic", "none").estimate == pytest.approx(math.exp(np.median(walsh)) - 1)


@pytest.mark.parametrize("n", [6, 11, 25, 48])
def test_the_interval_holds_the_shifts_that_the_exact_test_does_not_refuse(n):
    logs = np.random.default_rng(n).normal(-0.02, 0.05, n)
    _, low, high = hodges_lehmann(logs)
    for end, outward in ((low, -1), (high, 1)):
        inside, outside = (
            stats.wilcoxon(logs - end - side * outward * 1e-9, method="exact").pvalue for side in (-1, 1)
        )
        assert outside <= 0.05 < inside


def test_fewer_than_six_blocks_allow_no_interval():
    assert hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0])[1:] == (None, None)
    assert hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[1:] == (1.0, 6.0)
    found = effect(table_of([0.1, 0.2]), "synaptic", "none")
    assert (found.low, found.high) == (None, None)


@pytest.mark.slow
def test_the_interval_covers_as_often_as_promised():
    rng, repeats = np.random.default_rng(0), 2000
    ends = [hodges_lehmann(rng.standard_t(3, 20) + 1.0)[1:] for _ in range(repeats)]
    covered = sum(low <= 1.0 <= high for low, high in ends)
    low, high = stats.binom(repeats, 0.95).interval(0.999)
    assert low <= covered <= high + 20  # the exact test is a little smaller than its level


def test_numbers_by_hand():
    ratios = np.array([0.5, 0.8, 1.0, 1.25, 0.9, 0.9, 0.8])
    found = effect(table_of(np.log(ratios)), "synaptic", "none")
    assert found.mean == pytest.approx(np.prod(ratios) ** (1 / 7) - 1)
    assert found.median == pytest.approx(-0.1)
    assert (found.blocks, found.wins, found.ties, found.losses) == (7, 5, 1, 1)
    assert found.sign_p == pytest.approx(2 * (math.comb(6, 0) + math.comb(6, 1)) / 2**6)
    # Without the loss and the tie: the five wins hold more than all.
    assert found.top_share == pytest.approx(1 + math.log(1.25) / -np.log(ratios).sum())


def test_the_share_of_the_top_blocks_follows_the_sign_of_the_total():
    logs = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.5, -6.0])
    assert effect(table_of(logs / 100), "synaptic", "none").top_share == pytest.approx(15 / 10)
    assert effect(table_of(-logs / 100), "synaptic", "none").top_share == pytest.approx(15 / 10)
    assert effect(table_of(np.full(20, 0.1)), "synaptic", "none").top_share == pytest.approx(5 / 20)


def test_an_arm_against_itself_has_no_effect():
    table = table_of(np.zeros(8)).assign(identical=lambda t: t["none"])
    found = effect(table, "identical", "none")
    assert (found.estimate, found.low, found.high, found.mean, found.median) == (0, 0, 0, 0, 0)
    assert (found.ties, found.sign_p, found.equivalent) == (8, 1.0, 1.0)
    assert math.isnan(found.top_share)


def test_the_other_way_round_is_the_mirror_image():
    table = table_of(np.random.default_rng(1).normal(-0.02, 0.04, 15))
    there, back = effect(table, "synaptic", "none"), effect(table, "none", "synaptic")
    assert (1 + there.estimate) * (1 + back.estimate) == pytest.approx(1)
    assert (1 + there.low) * (1 + back.high) == pytest.approx(1)
    assert (there.wins, there.losses, there.sign_p) == (back.losses, back.wins, back.sign_p)
    assert there.better == pytest.approx(back.worse, abs=0.02)


@pytest.mark.parametrize(("centre", "spread"), [(-0.012, 0.02), (0.0, 0.01), (0.02, 0.05)])
def test_the_posterior_by_a_second_way(centre, spread):
    """Weights of a Dirichlet process are gamma variables divided by their sum; a matrix counts all pairs at once."""
    logs, rope = np.random.default_rng(3).normal(centre, spread, 20), math.log(1.01)
    values = np.concatenate([[0.0], logs])
    gammas = np.random.default_rng(4).gamma(np.array([0.5, *np.ones(20)]), size=(40_000, 21))
    weights = gammas / gammas.sum(1, keepdims=True)
    sums = values[:, None] + values
    below, above = ((weights @ (sign * sums > 2 * rope) * weights).sum(1) for sign in (-1, 1))
    winner = np.argmax([below, 1 - below - above, above], axis=0)
    expected = np.bincount(winner, minlength=3) / len(winner)
    found = bayesian_signed_rank(logs)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert sum(found) == pytest.approx(1)
    assert found == bayesian_signed_rank(logs)  # the seed is fixed


def test_what_cannot_be_a_ratio_is_refused():
    good = table_of([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"'dropout' is no column of the table; choose from \['none', 'synaptic'\]"):
        effect(good, "synaptic", "dropout")
    with pytest.raises(ValueError, match="at least one block"):
        effect(good.head(0), "synaptic", "none")
    for value in (0.0, -1.0, np.nan, np.inf):
        bad = good.copy()
        bad.loc[1, "synaptic"] = value
        with pytest.raises(ValueError, match=rf"arm 'synaptic' has {value} at 1; leave out that block"):
            log_ratios(bad, "synaptic", "none")
    with pytest.raises(ValueError, match="rope: must be above 0"):
        bayesian_signed_rank([0.1, 0.2], rope=0.0)


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_effect_on_a_data_set_is_a_mean_over_seeds_with_students_interval(seeds):
    rng, rows = np.random.default_rng(0), []
    for dataset, model, arm, seed in itertools.product("ab", ("rnn", "lstm"), ("x", "y", "z"), range(seeds)):
        size = rng.uniform(1, 2) * (1000 if dataset == "b" else 1) * (0.5 if (dataset, arm) == ("b", "x") else 1)
        rows.append((dataset, model, arm, seed, size))
    runs = pd.DataFrame(rows, columns=["dataset", "model", "arm", "seed", "mae"])
    found = effects_by_dataset(runs, "x", "y").set_index("dataset")
    assert list(found.index) == ["b", "a"]  # the best first
    for dataset, part in runs.groupby("dataset"):
        maes = part.set_index(["model", "arm", "seed"])["mae"]
        logs = [
            np.mean([math.log(maes[model, "x", seed] / maes[model, "y", seed]) for model in ("rnn", "lstm")])
            for seed in range(seeds)
        ]
        ends = [math.nan, math.nan] if seeds == 1 else stats.ttest_1samp(logs, 0).confidence_interval(0.95)
        expected = np.expm1([np.mean(logs), *ends])
        np.testing.assert_allclose(found.loc[dataset, ["estimate", "low", "high"]].to_numpy(float), expected)
