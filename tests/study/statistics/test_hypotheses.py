"""Declared hypotheses against plain SciPy, Holm by hand, a loop for the choice, and simulated studies for the power."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.statistics import (
    Hypothesis,
    RegimeErrors,
    best_by_validation,
    effect,
    effect_sizes,
    false_alarms,
    judge,
    non_inferior,
    power,
    without_each_group,
)

ARMS = ["none", "dropout", "pruned", "narrow"]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """The posterior takes nearly all the time; test_effect_sizes.py sees to it."""
    monkeypatch.setattr(effect_sizes, "_SAMPLES", 200)


def regime(seed=0, blocks=20, pruned=-0.05, noise=0.05):
    rng = np.random.default_rng(seed)
    shift = np.array([0.0, 0.0, pruned, 0.1])
    names = [f"s{n}" for n in range(blocks)]
    test, validation = (
        pd.DataFrame(np.exp(rng.normal(0, noise, (blocks, 4)) + shift), index=names, columns=ARMS) for _ in range(2)
    )
    return RegimeErrors(test, validation)


BEATS = Hypothesis("beats the tuned family", "features", "pruned", ("none", "dropout"))
LEVEL = Hypothesis("not worse", "univariate", "pruned", ("none", "dropout"), margin=0.01)
SMALL = Hypothesis("beats equally small ones", "univariate", "pruned", ("narrow",))
ERRORS = {"features": regime(1), "univariate": regime(2, pruned=-0.02)}


def test_the_reference_is_what_validation_chose_on_each_block():
    found = best_by_validation(ERRORS["features"], ["none", "dropout"])
    test, validation = ERRORS["features"].test, ERRORS["features"].validation
    for block in test.index:
        arm = "none" if validation.loc[block, "none"] <= validation.loc[block, "dropout"] else "dropout"
        assert tuple(found.loc[block]) == (arm, test.loc[block, arm])
    assert set(found["arm"]) == {"none", "dropout"}
    # Of equal validation errors the first named is taken, and test errors have no say.
    tied = RegimeErrors(test, pd.DataFrame(1.0, index=test.index, columns=ARMS))
    assert set(best_by_validation(tied, ["narrow", "none"])["arm"]) == {"narrow"}


def test_every_number_is_that_of_plain_scipy():
    found = judge([BEATS, LEVEL, SMALL], ERRORS)
    assert [one.hypothesis for one in found] == [BEATS, LEVEL, SMALL]
    references = [
        best_by_validation(ERRORS["features"], BEATS.against)["error"],
        best_by_validation(ERRORS["univariate"], LEVEL.against)["error"],
        ERRORS["univariate"].test["narrow"],
    ]
    logs = [
        np.log(ERRORS[one.hypothesis.regime].test["pruned"] / reference)
        for one, reference in zip(found, references, strict=True)
    ]
    p_values = [
        stats.wilcoxon(logs[0]).pvalue,
        stats.wilcoxon(logs[1] - math.log(1.01), alternative="less").pvalue,
        stats.wilcoxon(logs[2]).pvalue,
    ]
    np.testing.assert_allclose([one.p_value for one in found], p_values)
    order = np.argsort(p_values)  # Holm by hand: the smallest times three, then two, then one, never falling
    holm = np.maximum.accumulate([min(1.0, (3 - place) * p_values[n]) for place, n in enumerate(order)])
    np.testing.assert_allclose([found[n].p_holm for n in order], holm)
    assert [one.smallest_p for one in found] == [3 * 2.0**-19, 3 * 2.0**-20, 3 * 2.0**-19]
    assert found[0].effect.mean == pytest.approx(math.exp(logs[0].mean()) - 1)
    assert found[0].effect.other == "best of none, dropout"
    assert sum(found[0].chosen.values()) == 20
    assert found[2].chosen == {"narrow": 20}
    alone = effect(ERRORS["univariate"].test, "pruned", "narrow")
    assert found[2].effect == alone


def test_a_single_other_needs_no_validation_and_the_margin_is_that_of_non_inferiority():
    test = ERRORS["univariate"].test
    hypothesis = Hypothesis("level", "u", "pruned", ("none",), margin=0.01)
    (found,) = judge([hypothesis], {"u": RegimeErrors(test)})
    assert found.p_value == non_inferior(test, "pruned", "none", 0.01).p_value


def test_a_significant_loss_confirms_nothing():
    worse = {"features": regime(3, pruned=0.2)}
    (found,) = judge([BEATS], worse)
    assert found.p_holm < 0.001
    assert not found.holds
    (better,) = judge([BEATS], {"features": regime(3, pruned=-0.2)})
    assert better.holds


def test_too_few_blocks_confirm_nothing():
    (found,) = judge([BEATS], {"features": regime(3, blocks=5, pruned=-0.5)})
    assert (found.can_hold, found.holds) == (False, False)


def test_without_each_group_is_the_judgement_of_the_rest():
    groups = {f"s{n}": ["energy", "finance", "body"][n % 3] for n in range(20)}
    found = without_each_group(LEVEL, ERRORS, groups)
    assert list(found) == ["energy", "finance", "body"]
    for number, one in enumerate(found.values()):
        rest = [block for block in groups if int(block[1:]) % 3 != number]
        whole = ERRORS["univariate"]
        (alone,) = judge([LEVEL], {"univariate": RegimeErrors(whole.test.loc[rest], whole.validation.loc[rest])})
        assert one == alone
        assert one.effect.blocks == len(rest)
    assert without_each_group(LEVEL, ERRORS, dict.fromkeys(groups, "all")) == {}


def test_the_power_of_a_spread_that_is_known():
    # By hand: 8 blocks without spread all fall on one side; then p = 2/256 two-sided, 1/256 one-sided.
    flat = RegimeErrors(pd.DataFrame({"none": np.ones(8), "pruned": np.full(8, 0.97)}))
    beats = Hypothesis("beats", "r", "pruned", ("none",))
    assert power(beats, {"r": flat}, -0.02, alpha=0.01) == 1.0
    assert power(beats, {"r": flat}, -0.02, alpha=0.005) == 0.0
    assert power(beats, {"r": flat}, 0.02, alpha=0.01) == 0.0  # significantly worse confirms nothing
    level = Hypothesis("level", "r", "pruned", ("none",), margin=0.01)
    assert [power(level, {"r": flat}, change, alpha=0.005) for change in (0.009, 0.011)] == [1.0, 0.0]


@pytest.mark.parametrize(("margin", "change"), [(0.0, -0.02), (0.0, 0.0), (0.01, 0.0), (0.01, 0.01)])
def test_the_power_is_that_of_fresh_studies(margin, change):
    rng, blocks, repeats = np.random.default_rng(5), 20, 1000
    spread = 0.03 * stats.norm.ppf((np.arange(400) + 0.5) / 400)  # the true spread, as nearly as 400 blocks show it
    hypothesis = Hypothesis("h", "r", "pruned", ("none",), margin=margin)
    found = power(
        hypothesis, {"r": RegimeErrors(pd.DataFrame({"none": 1.0, "pruned": np.exp(spread)}))}, change, blocks=blocks
    )
    fresh = rng.normal(0, 0.03, (repeats, blocks)) + math.log1p(change)
    alternative = "less" if margin else "two-sided"
    p_values = stats.wilcoxon(fresh - math.log1p(margin), alternative=alternative, axis=1).pvalue
    expected = np.mean((p_values < 0.05) & ((fresh.mean(1) < 0) | (margin > 0)))
    assert found == pytest.approx(expected, abs=0.05)
    if change == margin:
        assert found <= 0.07  # nothing to find: no more than the level


def test_the_power_grows_with_effect_and_blocks_and_is_the_same_every_time():
    by_effect = [power(SMALL, ERRORS, change, repeats=300) for change in (0.0, -0.02, -0.05)]
    by_blocks = [power(SMALL, ERRORS, -0.02, blocks=blocks, repeats=300) for blocks in (8, 20, 60)]
    assert by_effect == sorted(by_effect) == [power(SMALL, ERRORS, c, repeats=300) for c in (0.0, -0.02, -0.05)]
    assert by_blocks == sorted(by_blocks)
    assert by_blocks[0] < by_blocks[2]


@pytest.mark.slow
def test_hypotheses_without_truth_hold_as_seldom_as_promised():
    rng, repeats = np.random.default_rng(6), 400
    family = [
        Hypothesis(name, name, "pruned", ("none", "dropout"), margin) for name, margin in (("a", 0.0), ("b", 0.01))
    ]
    wrong = 0
    for _ in range(repeats):
        errors = {}
        for name, shift in (("a", 0.0), ("b", math.log(1.01))):
            test = pd.DataFrame(np.exp(rng.normal(0, 0.02, (15, 3))), columns=["none", "dropout", "pruned"])
            validation = pd.DataFrame(rng.uniform(1, 2, (15, 3)), columns=test.columns)
            errors[name] = RegimeErrors(test.assign(pruned=test["pruned"] * math.exp(shift)), validation)
        wrong += any(one.holds for one in judge(family, errors))
    assert 0 < wrong <= stats.binom(repeats, 0.05).ppf(0.999)


def test_p_values_of_hypotheses_without_truth_are_uniform():
    rng = np.random.default_rng(7)
    hypotheses = [Hypothesis(str(n), str(n), "pruned", ("none",), 0.01 * (n % 2)) for n in range(40)]
    errors = {
        one.name: RegimeErrors(
            pd.DataFrame(np.exp(rng.normal([0, math.log1p(one.margin)], 0.05, (14, 2))), columns=["none", "pruned"])
        )
        for one in hypotheses
    }
    p_values = [one.p_value for one in judge(hypotheses, errors)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_null_check_counts_all_pairs():
    table = pd.DataFrame(np.exp(np.random.default_rng(8).normal(0, 0.05, (12, 8))))
    found = false_alarms(table, alpha=0.2)
    pairs = [np.log(table[a] / table[b]) for a, b in itertools.combinations(range(8), 2)]
    assert found.repeats == len(pairs) == 28
    assert found.alarms == sum(stats.wilcoxon(pair).pvalue < 0.2 for pair in pairs) > 0
    assert found.share == found.alarms / 28
    assert found.largest == pytest.approx(max(abs(np.median(np.exp(pair)) - 1) for pair in pairs))
    assert found.most_wins == max(max((pair < 0).sum(), (pair > 0).sum()) for pair in pairs)
    assert false_alarms(table.assign(broken=2.0)).alarms >= 8  # an arm that is not the same


@pytest.mark.slow
def test_the_share_of_false_alarms_is_the_level():
    rng = np.random.default_rng(9)
    shares = [false_alarms(pd.DataFrame(np.exp(rng.normal(0, 0.05, (15, 7))))).share for _ in range(200)]
    assert 0.025 < np.mean(shares) < 0.07


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"against": ()}, r"against: hypothesis 'h' compares 'pruned' with \(\); name other arms"),
        ({"against": ("none", "pruned")}, "name other arms"),
        ({"margin": -0.1}, "margin: must be a number of at least 0, got -0.1"),
        ({"margin": float("nan")}, "margin: must be a number"),
    ],
)
def test_a_hypothesis_that_says_nothing_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        Hypothesis(**{"name": "h", "regime": "r", "arm": "pruned", "against": ("none",)} | changed)


def test_what_cannot_be_judged_is_refused():
    whole = ERRORS["features"]
    for hypotheses, errors, said in (
        ([BEATS, BEATS], ERRORS, "two are called 'beats the tuned family'; give each its own name"),
        ([BEATS], {"univariate": whole}, r"needs regime 'features'; there are \['univariate'\]"),
        ([BEATS], {"features": RegimeErrors(whole.test)}, r"choosing among \['none', 'dropout'\] needs validation"),
        ([BEATS], {"features": RegimeErrors(whole.test, whole.validation[::-1])}, "the same rows in the same order"),
        (
            [BEATS],
            {"features": RegimeErrors(whole.test, whole.validation[["none"]])},
            "'dropout' is no column",
        ),
        ([BEATS], {"features": RegimeErrors(whole.test, whole.validation * np.nan)}, "is not finite"),
        ([BEATS], {"features": RegimeErrors(whole.test * 0, whole.validation)}, "errors must be positive numbers"),
        ([BEATS], {"features": RegimeErrors(whole.test[["none", "dropout"]], whole.validation)}, "'pruned' is no col"),
    ):
        with pytest.raises(ValueError, match=said):
            judge(hypotheses, errors)
    assert judge([], {}) == []
    with pytest.raises(ValueError, match="groups: block 's0' has no group"):
        without_each_group(BEATS, ERRORS, {})
    for arguments, said in (
        ({"change": -1.0}, "change: must be a number above -1"),
        ({"change": 0.0, "alpha": 1.0}, "alpha: must lie"),
        ({"change": 0.0, "blocks": 0}, "must both be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            power(BEATS, ERRORS, **arguments)
    with pytest.raises(ValueError, match=r"6 repeats of an arm make 15 comparisons, .* give at least 7 repeats"):
        false_alarms(pd.DataFrame(np.ones((5, 6))))
    with pytest.raises(ValueError, match="alpha: must lie"):
        false_alarms(pd.DataFrame(np.ones((5, 7))), alpha=0.0)
