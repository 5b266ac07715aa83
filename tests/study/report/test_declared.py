"""Declared hypotheses, against plain SciPy on tables made by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.engine import About
from synaptic_pruning.study.forecasting.report.declared import as_values, declared, null_check
from synaptic_pruning.study.forecasting.report.tables import effects, lost_to
from synaptic_pruning.study.statistics import Hypothesis

FAMILY = ("none", "dropout")
BEATS = Hypothesis("pruned beats the family", "features", "early", FAMILY)
NOT_WORSE = Hypothesis("no worse", "univariate", "early", ("none",), margin=0.01)
ABOUT = About("", blocks={f"d{n}": f"d{n}" for n in range(12)}, domains={f"d{n}": "ab"[n % 2] for n in range(12)})


@pytest.fixture
def runs():
    """Twelve data sets, two models, two regimes, two seeds; validation prefers dropout on every third case."""
    rng, rows = np.random.default_rng(0), []
    for number in range(12):
        for place, model in enumerate(("rnn", "lstm")):
            for regime in ("univariate", "features"):
                for arm in ("none", "dropout", "early"):
                    for seed in range(2):
                        better = (arm == "dropout") == ((number + place) % 3 == 0)
                        rows.append(
                            {
                                "dataset": f"d{number}",
                                "regime": regime,
                                "model": model,
                                "length": 7,
                                "horizon": 1,
                                "arm": arm,
                                "seed": seed,
                                "status": "ok",
                                "mae": 10.0**number * rng.uniform(1, 1.2) * (0.9 if arm == "early" else 1),
                                "validation_mae": (1 if better else 2) + 0.01 * seed,
                            }
                        )
    return pd.DataFrame(rows)


def by_hand(runs, regime, others):
    """Logs of the arm's error over the reference's, one a data set."""
    means = runs[runs["regime"] == regime].groupby(["dataset", "model", "arm"], sort=False)["mae"].mean().unstack()
    logs = {}
    for (dataset, model), row in means.iterrows():
        number, place = int(dataset[1:]), ("rnn", "lstm").index(model)
        reference = others[0] if len(others) == 1 or (number + place) % 3 else "dropout"
        logs.setdefault(dataset, []).append(np.log(row["early"] / row[reference]))
    return np.array([np.mean(values) for values in logs.values()])


def test_hypotheses_are_judged_as_by_hand(runs):
    beats, not_worse = declared(runs, [BEATS, NOT_WORSE], ABOUT)
    first, second = by_hand(runs, "features", FAMILY), by_hand(runs, "univariate", ("none",))
    p = [stats.wilcoxon(first).pvalue, stats.wilcoxon(second - np.log(1.01), alternative="less").pvalue]
    holm = [min(1, 2 * min(p)), max(min(1, 2 * min(p)), max(p))]
    corrected = holm if p[0] <= p[1] else holm[::-1]
    for one, alone, after, logs in zip((beats, not_worse), p, corrected, (first, second), strict=True):
        assert one.judgement.p_value == pytest.approx(alone)
        assert one.judgement.p_holm == pytest.approx(after)
        assert one.judgement.effect.median == pytest.approx(np.median(np.expm1(logs)))
        assert one.judgement.effect.mean == pytest.approx(np.expm1(np.mean(logs)))
        assert one.judgement.effect.wins == (logs < 0).sum()
    assert beats.judgement.hypothesis == BEATS
    assert beats.judgement.chosen == {"none": 16, "dropout": 8}
    assert list(beats.without) == ["a", "b"]
    rest = first[1::2]  # without the domain "a", which has the even data sets
    assert beats.without["a"].p_value == pytest.approx(stats.wilcoxon(rest).pvalue)
    assert "“early” has smaller errors than the better of “none” and “dropout” by validation" in beats.sentence
    assert "confirmed" in beats.sentence
    assert "by less than 1\u00a0%" in not_worse.sentence
    assert (beats.assumed, not_worse.assumed) == (-0.01, 0.0)
    (value, _) = json.loads(json.dumps(as_values([beats, not_worse])))
    assert value["holds"] is True
    assert value["hypothesis"]["regime"] == "features"
    assert set(value["without"]) == {"a", "b"}


def test_a_loss_and_too_few_data_are_no_confirmation(runs):
    worse = runs.assign(mae=runs["mae"] * np.where(runs["arm"] == "early", 1.5, 1))
    (one,) = declared(worse, [BEATS], ABOUT)
    assert one.judgement.p_holm < 0.01
    assert not one.judgement.holds
    assert "not shown" in one.sentence
    (few,) = declared(runs[runs["dataset"].isin(["d0", "d1", "d2"])], [BEATS], ABOUT)
    assert "too few data sets to tell" in few.sentence
    assert declared(runs[runs["arm"] != "dropout"], [BEATS], ABOUT) == []
    assert declared(runs, [], ABOUT) == []


def test_every_two_seeds_of_the_plain_network_are_a_null_check(runs):
    assert null_check(runs, {}) is None  # two seeds
    rng = np.random.default_rng(1)
    many = pd.concat(
        [runs[(runs["arm"] == "none") & (runs["seed"] == 0)].assign(seed=seed) for seed in range(8)], ignore_index=True
    )
    many["mae"] *= np.exp(rng.normal(0, 0.05, len(many)))
    found = null_check(many, {})
    assert found.repeats == 8 * 7 / 2
    logs = np.log(many["mae"]).groupby([many["dataset"], many["seed"]], sort=False).mean().unstack()
    alarms = sum(stats.wilcoxon(logs[i] - logs[j]).pvalue < 0.05 for i in range(8) for j in range(i))
    assert found.alarms == alarms


def test_effects_are_told_for_every_regime_and_arm(runs):
    found = effects(runs, "early", {})
    assert [(row["regime"], row["effect"].other) for row in found] == [
        (regime, other) for regime in ("univariate", "features") for other in FAMILY
    ]
    assert found[0]["effect"].median == pytest.approx(np.median(np.expm1(by_hand(runs, "univariate", ("none",)))))
    assert effects(runs, "synaptic", {}) == []


def test_where_ridge_beats_every_network_is_said(runs):
    means = runs.groupby(["dataset", "regime", "horizon", "model", "arm"])["mae"].mean()
    best = means.groupby(["dataset", "regime", "horizon"]).min().reset_index()
    factor = np.where(best["dataset"].isin(["d3", "d4"]) & (best["regime"] == "features"), 0.9, 1.1)
    ridge = best.assign(arm="ridge", status="ok", mae=best["mae"] * factor)
    assert lost_to(runs, ridge, "ridge") == {"name": "ridge", "of": 24, "series": ["d3 (features)", "d4 (features)"]}
    assert lost_to(runs, ridge.assign(mae=best["mae"] * 1.1), "ridge") is None
    assert lost_to(runs, ridge, "lightgbm") is None
