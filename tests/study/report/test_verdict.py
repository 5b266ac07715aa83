"""The words of the verdict on tables made so that the answer is known."""

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.study.forecasting.report.verdict import judge, losses, lost_to_persistence

ARMS = ["none", "dropout", "mc-dropout", "synaptic"]


def runs(factors, datasets=12, models=("rnn", "lstm"), arms=ARMS, seeds=2):
    """Errors of `synaptic` are `factors[dataset]` times those of the other arms (and a trace, against ties)."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(datasets):
        for model in models:
            for length in (7, 30):
                for seed in range(seeds):
                    base = 10.0**number * (1 + 0.01 * rng.uniform())
                    for arm in arms:
                        factor = factors[number % len(factors)] * (1 + 1e-7 * number) if arm == "synaptic" else 1.0
                        rows.append(
                            {
                                "dataset": f"d{number}",
                                "regime": "features",
                                "model": model,
                                "arm": arm,
                                "length": length,
                                "horizon": 1,
                                "seed": seed,
                                "mae": base * factor,
                                "skill": 1 - factor * 0.9,
                                "sparsity": 0.9 if arm == "synaptic" else 0.0,
                                "prunable": 1000,
                                "alive": 100 if arm == "synaptic" else 1000,
                                "status": "ok",
                            }
                        )
    return pd.DataFrame(rows)


def test_a_win():
    verdict = judge(runs([0.95]))
    assert verdict.headline == "Synaptic pruning beats dropout"
    assert "5.0\u00a0% lower in the median over 12 data sets" in verdict.answer
    assert "is statistically supported" in verdict.answer
    assert "p = 0.0015" in verdict.answer  # 3 comparisons × 2 / 2^12
    assert "90\u00a0% of their prunable weights pruned" in verdict.sparsity
    assert "100 of 1,000 remain" in verdict.sparsity


def test_a_loss():
    verdict = judge(runs([1.25]))
    assert verdict.headline == "Synaptic pruning loses to dropout"
    assert "25.0\u00a0% higher" in verdict.answer
    assert "is statistically supported" in verdict.answer


@pytest.mark.parametrize(
    ("factor", "outcome"), [(0.97, "beat “dropout”: their error is 3.0\u00a0% lower"), (1.02, "lose to")]
)
def test_an_ensemble_has_a_sentence_of_its_own(factor, outcome):
    table = runs([0.99, 1.02], arms=[*ARMS, "synaptic-ensemble"])
    mine = table["arm"] == "synaptic-ensemble"
    table.loc[mine, "mae"] *= factor * (1 + 1e-7 * np.arange(mine.sum()))
    verdict = judge(table)
    assert verdict.headline == "No difference from dropout is established"
    assert outcome in verdict.ensemble
    assert "p = 0.002" in verdict.ensemble  # at most 4 comparisons × 2 / 2^12
    assert judge(table[table["dataset"].isin(["d0", "d1"])]).ensemble == ""  # two decide nothing
    assert judge(runs([0.95])).ensemble == ""


def test_no_difference():
    verdict = judge(runs([0.95, 1.06]))
    assert verdict.headline == "No difference from dropout is established"
    assert "cannot be told apart" in verdict.answer
    assert "not statistically supported" in verdict.answer


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_too_few_data_sets_never_win_nor_lose(factor):
    verdict = judge(runs([factor], datasets=3))
    assert "too few data sets" in verdict.headline
    assert "no outcome can be significant with N = 3 data sets" in verdict.answer
    assert "3 comparisons" in verdict.answer
    assert "at least 7" in verdict.answer
    assert "beats" not in verdict.headline + verdict.answer
    assert "loses" not in verdict.headline + verdict.answer


def test_one_data_set_claims_nothing():
    verdict = judge(runs([0.9], datasets=1))
    assert verdict.headline == "Ahead of dropout on this data set"
    assert "10.0\u00a0% lower (8 paired runs, −10.0\u00a0% to −10.0\u00a0%)" in verdict.answer
    assert "no significance is claimed" in verdict.answer


def test_one_pair_of_runs_has_no_range():
    one = runs([0.9], datasets=1, models=("rnn",), arms=["none", "synaptic"], seeds=1)
    verdict = judge(one[one["length"] == 7])
    assert verdict.headline == "Ahead of the plain network on this data set"
    assert "10.0\u00a0% lower (one pair of runs); one data set" in verdict.answer


def test_without_dropout_it_is_judged_against_none():
    assert judge(runs([0.9], arms=["none", "synaptic"])).headline == "Synaptic pruning beats the plain network"


@pytest.mark.parametrize("arms", [["none", "dropout"], ["synaptic"]])
def test_without_a_pair_there_is_no_verdict(arms):
    assert judge(runs([1.0], arms=arms)).headline == "No verdict on synaptic pruning"


def test_nothing_to_judge():
    assert "nothing to compare" in judge(runs([1.0]).head(0)).answer


def test_losses_are_listed_heaviest_first():
    table = losses(runs([0.9, 1.1, 1.3], datasets=3, models=("rnn",)))
    assert list(table["dataset"]) == ["d2", "d2", "d1", "d1"]
    assert table["none"].tolist() == pytest.approx([0.3, 0.3, 0.1, 0.1], abs=1e-5)
    assert losses(runs([0.9])).empty
    assert losses(runs([1.1], arms=["none", "dropout"])).empty


def test_losing_to_persistence_is_named():
    found = lost_to_persistence(runs([1.2, 0.9], datasets=2, models=("rnn",)))
    assert found == [{"case": "d0", "model": "rnn", "arms": "synaptic"}]
    every = runs([1.2], datasets=1, models=("rnn",))
    every["skill"] = -0.1
    assert lost_to_persistence(every)[0]["arms"] == "every arm"
