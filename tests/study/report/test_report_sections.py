"""What the sections of the report say, against values counted by hand or computed another way."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report.by_series import by_series, errors_by_step
from synaptic_pruning.study.forecasting.report.evidence import checks, parts
from synaptic_pruning.study.forecasting.report.panels import MOST_SHOWN, choose_datasets
from synaptic_pruning.study.forecasting.report.tables import baseline_skill, costs, errors, options, unfinished

DEVELOPMENT = tuple(f"d{n}" for n in range(8))


def runs(ratios, datasets=16, models=("rnn", "lstm"), seeds=(0, 1)):
    """Paired runs in which every arm's error is its ratio, a number or a function of the data set, times "none"'s."""
    rows = [
        {
            "dataset": f"d{n}",
            "regime": "features",
            "model": model,
            "arm": arm,
            "length": 6,
            "horizon": 1,
            "seed": seed,
            "mae": 10.0**n * (ratio(n) if callable(ratio) else ratio) * (1 + 1e-6 * n),
            "skill": 0.1,
            "sparsity": 0.8 if arm == "synaptic" else 0.0,
            "status": "ok",
            "train_seconds": 2.0 + n if arm == "none" else 3.0 * (2.0 + n),
            "predict_seconds": 0.1,
            "peak_memory_mb": 300.0,
        }
        for n in range(datasets)
        for model in models
        for seed in seeds
        for arm, ratio in {"none": 1.0, **ratios}.items()
    ]
    return pd.DataFrame(rows)


def test_the_halves_are_judged_apart():
    table = runs({"synaptic": lambda n: (0.9 if n < 8 else 1.2) + n * 1e-4, "dropout": 1.0})
    development, confirmation, whole = parts(table, "synaptic", {}, DEVELOPMENT)
    assert (development.name, development.datasets, development.sparsity) == ("development", 8, 0.8)
    assert development.pairs["none"].difference == pytest.approx(-0.1, abs=1e-3)
    assert (development.pairs["none"].wins, development.pairs["none"].losses) == (8, 0)
    assert development.not_worse.p_value == 2**-8
    assert confirmation.pairs["none"].difference == pytest.approx(0.2, abs=2e-3)
    assert confirmation.not_worse.p_value == 1.0
    assert whole.datasets == 16
    assert (whole.pairs["dropout"].wins, whole.pairs["dropout"].losses) == (8, 8)


def test_without_halves_there_is_one_part_and_sources_count_once():
    table = runs({"synaptic": lambda n: 0.9 + 0.001 * n})
    (whole,) = parts(table, "synaptic", {f"d{n}": "one" for n in range(10)}, ())
    assert (whole.datasets, whole.blocks) == (16, 7)
    assert whole.pairs["none"].p_value == 2 * 2**-7
    assert parts(table, "synaptic-ensemble", {}, ()) == []


def test_controls_that_do_what_they_must_are_told_calmly():
    wobble = {"identical": lambda n: 1.001 if n % 2 else 1 / 1.00101, "broken": lambda n: 1.5 + n * 2e-3}
    null, positive = checks(runs(wobble), {})
    assert not null.alarming
    assert "as it should be" in null.text
    assert not positive.alarming
    assert "51.5\u00a0% higher" in positive.text
    assert "worse on 16 of 16" in positive.text


def test_controls_that_do_not_alarm():
    null, positive = checks(
        runs({"identical": lambda n: 0.97 + n * 1e-4, "broken": lambda n: 1.0 - 0.01 * (-1) ** n + n * 1e-5}), {}
    )
    assert null.alarming
    assert "distrust" in null.text
    assert positive.alarming
    assert "did not" in positive.text
    assert checks(runs({}), {}) == []


def test_a_failed_control_leaves_the_rest_alone():
    table = runs({"broken": 1.5, "identical": 1.0})
    table.loc[table["arm"] == "broken", "status"] = "nan-loss: x"
    assert ["Null check" in check.text for check in checks(table, {})] == [True]


def test_options_are_counted_once_a_data_set_model_and_length():
    rows = [
        (dataset, model, length, seed, "sparsity 0.8" if dataset == "b" else "sparsity 0.67")
        for dataset in "abc"
        for model in ("rnn", "lstm")
        for length in (6, 12)
        for seed in range(5)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "model", "length", "seed", "option"]).assign(
        arm="synaptic", regime="features", horizon=1
    )
    plain = table.assign(arm="none", option="")
    assert options(pd.concat([plain, table])) == [
        {"arm": "none", "option": "", "counts": {"rnn": 6, "lstm": 6}, "total": 12},
        {"arm": "synaptic", "option": "sparsity 0.67", "counts": {"rnn": 4, "lstm": 4}, "total": 8},
        {"arm": "synaptic", "option": "sparsity 0.8", "counts": {"rnn": 2, "lstm": 2}, "total": 4},
    ]


def test_what_baselines_score_and_whom_they_beat():
    # "none" has errors 10 ** n, "synaptic" 0.9 of that; a baseline at 0.95 beats the one everywhere, the other nowhere.
    table = runs({"synaptic": 0.9}, datasets=4).assign(validation_mae=lambda t: t["mae"])
    beside = table[(table["arm"] == "none") & (table["model"] == "rnn") & (table["seed"] == 0)]
    beside = beside.assign(arm="ridge", model="", mae=0.95 * beside["mae"], skill=[0.1, 0.2, 0.3, 0.6])
    (row,) = baseline_skill(table, beside, {"d0": "one", "d1": "one"})
    assert row["name"] == "ridge"
    assert row["skill"] == pytest.approx((0.15 + 0.3 + 0.6) / 3)  # one value a source
    assert row["lost"] == {"none": {"sum": 3, "size": 3}, "synaptic": {"sum": 0, "size": 3}}
    found = errors(table, beside)
    assert [(one["dataset"], one["model"]) for one in found[:2]] == [("d0", "rnn"), ("d0", "lstm")]
    assert found[0]["maes"] == pytest.approx({"ridge": 0.95, "none": 1.0, "synaptic": 0.9})
    assert found[0]["best"] == pytest.approx(0.9)
    assert found[0]["skills"]["ridge"] == 0.1


def test_runs_that_might_have_gone_on_learning_are_counted():
    table = runs({"synaptic": 0.9}, datasets=4, models=("rnn",))
    late = (table["arm"] == "none") & ((table["dataset"] == "d0") | ((table["dataset"] == "d1") & (table["seed"] == 0)))
    table = table.assign(best_epoch=np.where(late, 19, 18), most_epochs=20)
    table.loc[0, "status"] = "failed: x"  # seed 0 of "none" on d0
    assert unfinished(table) == [
        {"arm": "all arms", "share": pytest.approx(2 / 15), "series": []},
        {"arm": "synaptic", "share": 0.0, "series": []},
        {"arm": "none", "share": pytest.approx(2 / 7), "series": ["d0"]},  # as its first run is left out
    ]


def test_costs_are_relative_to_the_first_arm_on_the_same_data():
    rows = costs(runs({"synaptic": 0.9}))
    assert [(row["model"], row["arm"]) for row in rows] == [
        (model, arm) for model in ("rnn", "lstm") for arm in ("none", "synaptic")
    ]
    assert [row["train_seconds ratio"] for row in rows] == pytest.approx([1, 3, 1, 3])


def test_six_data_sets_are_shown_from_the_best_to_the_worst():
    order = np.random.default_rng(0).permutation(16)
    table = runs({"synaptic": lambda n: 0.9 + 0.01 * order[n]})
    shown = choose_datasets(table)
    assert [order[int(name[1:])] for name in shown] == [0, 3, 6, 9, 12, 15]
    assert len(shown) == MOST_SHOWN
    assert choose_datasets(runs({"synaptic": 0.9}, datasets=5)) == [f"d{n}" for n in range(5)]


def test_the_series_are_tested_on_the_mean_forecast_over_seeds(tmp_path):
    rng = np.random.default_rng(0)
    plan = Plan(models=("rnn",), arms=("none", "dropout", "synaptic"), lengths=(6,), horizons=(2,), seeds=2, epochs=1)
    stored, rows = {}, []
    for dataset, noise in {"better": 0.1, "alike": 1.0, "worse": 3.0}.items():
        truth = rng.normal(size=(500, 2))
        truth[7] = np.nan
        truth[9, 1] = np.nan
        for arm, size in {"none": 1.0, "synaptic": noise}.items():
            for seed in range(plan.seeds):
                name = f"{dataset}-{arm}-{seed}"
                stored[name] = truth + size * rng.normal(size=truth.shape)
                np.savez(tmp_path / f"{name}.npz", **{"test": truth, "test 0": stored[name]})
                rows.append(
                    {
                        "dataset": dataset,
                        "model": "rnn",
                        "arm": arm,
                        "length": 6,
                        "config_hash": name,
                    }
                )
        stored[dataset] = truth
    table = pd.DataFrame(rows).assign(horizon=2, regime="features")
    (found,) = by_series(table, plan, tmp_path, "synaptic", ("none", "dropout"))
    assert (found.other, found.model, found.better, found.worse) == ("none", "rnn", 1, 1)
    assert list(found.tests) == ["better", "alike", "worse"]
    for dataset, test in found.tests.items():
        truth = stored[dataset]
        loss = {
            arm: np.nanmean(np.abs(truth - (stored[f"{dataset}-{arm}-0"] + stored[f"{dataset}-{arm}-1"]) / 2)[keep], 1)
            for keep in [np.arange(500) != 7]
            for arm in ("none", "synaptic")
        }
        assert test.steps == 499
        assert test.difference == pytest.approx(loss["synaptic"].mean() - loss["none"].mean())
        # Independent noise has next to no autocovariance, so the paired t-test is nearly the same test.
        assert test.statistic == pytest.approx(
            stats.ttest_rel(loss["synaptic"], loss["none"]).statistic, rel=0.35, abs=0.5
        )


def test_the_error_of_every_step_ahead_is_the_mean_over_runs(tmp_path):
    rng = np.random.default_rng(0)
    plan = Plan(models=("rnn", "mlp"), arms=("none", "mc-dropout"), lengths=(6,), horizons=(1, 3), seeds=2, epochs=1)
    truth = rng.normal(size=(50, 3))
    truth[[4, 9], [1, 2]] = np.nan
    rows, expected = [], {}
    for arm in plan.arms:
        forecasts = {f"{arm}-{model}-{seed}": rng.normal(size=(50, 3)) for model in plan.models for seed in range(2)}
        for name, values in forecasts.items():
            np.savez(tmp_path / f"{name}.npz", **{"test": truth, f"test {plan.passes(arm)}": values})
            rows.append({"dataset": "a", "arm": arm, "horizon": 3, "config_hash": name})
        expected[arm] = np.mean([np.nanmean(np.abs(values - truth), axis=0) for values in forecasts.values()], axis=0)
    rows += [{"dataset": "a", "arm": "none", "horizon": 1, "config_hash": "one step has no steps ahead"}]
    rows += [{"dataset": "b", "arm": "none", "horizon": 3, "config_hash": "not shown"}]
    found = errors_by_step(pd.DataFrame(rows).assign(regime="univariate"), plan, tmp_path, ["a"])
    assert found["step"].tolist() == [1, 2, 3, 1, 2, 3]
    for arm, part in found.groupby("arm"):
        np.testing.assert_allclose(part["mae"], expected[arm])


def test_series_that_are_not_trained_out_are_flagged_by_regime():
    table = runs({"synaptic": 0.9}, datasets=2, models=("rnn",)).assign(best_epoch=10, most_epochs=20)
    late = table.assign(regime="univariate", best_epoch=np.where(table["dataset"] == "d1", 20, 10))
    found = unfinished(pd.concat([table, late], ignore_index=True))
    assert [(row["arm"], row["share"], row["series"]) for row in found] == [
        (arm, 0.25, ["d1 (univariate)"]) for arm in ("all arms", "none", "synaptic")
    ]
