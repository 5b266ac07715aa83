"""What an arm chooses, on records written by hand: validation decides, the test error lies."""

import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from synaptic_pruning.study.engine.local import Processes
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting.compare import compare_series
from synaptic_pruning.study.forecasting.options import Grid
from synaptic_pruning.study.forecasting.plan import TUNING_SEED, Plan, cases, expand, expand_chosen
from synaptic_pruning.study.forecasting.results import (
    choose,
    gather_forecasts,
    only_options,
    select,
    to_options_table,
    to_table,
)
from synaptic_pruning.study.forecasting.run import run_job
from synaptic_pruning.study.statistics import paired
from synaptic_pruning.tasks.forecasting.data.series import DataError, Series

TIDES = Series("tides", "y", ("y",), np.arange(40), np.sin(np.arange(40.0))[:, None], season=12)
TRUTH = {"test": np.array([[1.0], [2.0], [np.nan], [4.0]]), "validation": np.array([[0.0], [10.0]])}
GRID = Grid(dropout=(0.1, 0.3), sparsity=(0.7, 0.9), weight_decay=(1e-4, 1e-2), options=2)
SEEDS = (0, 1, 2)


def plan(*arms, grid=GRID, protocol="rigorous", lengths=(3,)):
    return Plan(
        models=("rnn",), arms=arms, lengths=lengths, horizons=(1,), seeds=3, epochs=1, grid=grid, protocol=protocol
    )


ENSEMBLE = plan("synaptic-ensemble", grid=Grid(sparsity=(0.5,)))


def written(folder, cells, validation, failed):
    """Records in which `validation(option, passes, seed)` is the validation error; the test error is its opposite.

    Forecasts are the truth plus a number of their own, so that a mix-up shows.
    """
    records = []
    for place, cell in enumerate(cells):
        record = {"cell": cell.to_dict(), "hash": cell.hash, "status": "ok"}
        if (cell.option, cell.seed) in failed:
            records.append(record | {"status": "killed: signal 9"})
            continue
        answers, forecasts = {}, {}
        for passes in cell.passes:
            error = validation(cell, passes)
            answers[str(passes)] = {
                "mae": 100 - error,
                "validation_mae": error,
                "validation_rmse": 2 * error,
                "predict_seconds": 1.0 + place,
            }
            for part, values in TRUTH.items():
                forecasts[f"{part} {passes}"] = values + place + 10 * passes
        buffer = io.BytesIO()
        np.savez(buffer, **TRUTH, **forecasts)
        (folder / f"{cell.hash}.npz").write_bytes(buffer.getvalue())
        records.append(
            record
            | {
                "answers": answers,
                "alive": 100 + place,
                "prunable": 1000,
                "train_seconds": 2.0,
                "peak_memory_mb": 50.0 + place,
                "divided_by": {"persistence": 2.0, "seasonal naive": 4.0},
                "best_epoch": 1,
                "most_epochs": 1,
            }
        )
    return records


def run(folder, a_plan, validation, failed=()):
    """Go through both stages and return the cells and records of the second, and the runs."""
    compared = cases(a_plan, [TIDES])
    first = expand(a_plan, compared)
    tried = written(folder, first, validation, failed)
    chosen = choose(first, tried, a_plan) if first else only_options(a_plan, [case for case, _ in compared])
    cells = expand_chosen(a_plan, compared, chosen)
    records = written(folder, cells, validation, failed)
    return cells, records, select(cells, records, chosen, a_plan, folder)


def of(runs, arm):
    """The runs of an arm, by seed."""
    found = [run for run in runs if {"name": arm} in run["cell"]["arms"]]
    return {run["cell"]["seed"]: run for run in found}


def test_the_option_with_the_smallest_validation_error_wins_whatever_the_test_says(tmp_path):
    # Fresh seeds would have chosen otherwise, and so would the test errors (100 - validation).
    def error(cell, _):
        sparse = cell.option.sparsity == 0.9
        return (1.0 if sparse else 6.0) if cell.seed == TUNING_SEED else (6.0 if sparse else 1.0)

    cells, _, runs = run(tmp_path, plan("synaptic"), error)
    chosen = of(runs, "synaptic")
    assert sorted(chosen) == [cell.seed for cell in cells] == list(SEEDS)
    assert [run["option"] for run in chosen.values()] == ["sparsity 0.9"] * 3
    assert [run["arms"]["synaptic"]["mae"] for run in chosen.values()] == [94.0] * 3


def test_one_percent_of_validation_error_buys_the_sparser_network(tmp_path):
    for price, taken in ((1.0099, 0.9), (1.0101, 0.7)):
        runs = run(tmp_path, plan("synaptic"), lambda cell, _, p=price: p if cell.option.sparsity == 0.9 else 1.0)[2]
        assert {run["option"] for run in runs} == {f"sparsity {taken}"}


def test_every_case_chooses_for_itself(tmp_path):
    def error(cell, _):  # the other way round for the longer window
        return cell.option.weight_decay * (-1 if cell.length == 5 else 1)

    runs = run(tmp_path, plan("none", lengths=(3, 5)), error)[2]
    assert {(run["cell"]["length"], run["option"]) for run in runs} == {
        (3, "weight decay 0.0001"),
        (5, "weight decay 0.01"),
    }


def test_every_arm_has_as_many_options_with_every_rate_and_setting_as_often(tmp_path):
    grid = Grid(rate=(1, 3, 9), dropout=(0, 0.1, 0.3, 0.5), sparsity=(0.5, 0.8), weight_decay=(0, 0.1), options=6)
    a_plan = plan("none", "dropout", "synaptic", "vos2025", "narrow", "identical", grid=grid)
    for arm in a_plan.arms:
        options = a_plan.options(arm)
        assert len(options) == len(set(options)) == 6
        assert [sum(option.rate == rate for option in options) for rate in grid.rate] == [2, 2, 2]
    rates = [option.dropout for option in a_plan.options("dropout")]
    assert [rates.count(rate) for rate in grid.dropout] == [2, 2, 1, 1]
    (case, _), *others = cases(a_plan, [TIDES])
    assert not others
    for cell in expand(a_plan, cases(a_plan, [TIDES])):
        assert cell.learning_rate == pytest.approx(1e-3 * cell.option.rate)
        assert cell.seed == TUNING_SEED
    assert (case.dataset, case.regime) == ("tides", "multivariate")


def test_mc_dropout_chooses_by_its_own_validation_error_and_shares_records_where_they_agree(tmp_path):
    single, many = {0.1: 1.0, 0.3: 2.0}, {0.1: 2.0, 0.3: 1.0}
    apart = run(
        tmp_path, plan("dropout", "mc-dropout"), lambda cell, passes: (many if passes else single)[cell.option.dropout]
    )[2]
    assert [run["option"] for run in of(apart, "dropout").values()] == ["dropout 0.1"] * 3
    assert [run["option"] for run in of(apart, "mc-dropout").values()] == ["dropout 0.3"] * 3
    assert len(apart) == 6

    same = run(tmp_path, plan("dropout", "mc-dropout"), lambda cell, passes: cell.option.dropout + passes)[2]
    assert len(same) == 3
    for one in same:
        assert one["cell"]["arms"] == [{"name": "dropout"}, {"name": "mc-dropout"}]
        assert one["arms"]["dropout"]["mae"] == 99.9
        assert one["arms"]["mc-dropout"]["mae"] == pytest.approx(49.9)
        shown = one["tail"]["forecasts"]
        assert np.subtract(shown["mc-dropout"], shown["dropout"])[[0, 1, 3]].tolist() == [500.0] * 3


def test_the_released_protocol_calls_one_pass_mc_dropout(tmp_path):
    cells, _, runs = run(tmp_path, plan("mc-dropout", protocol="paper"), lambda cell, _: cell.option.dropout)
    assert {cell.passes for cell in cells} == {(1,)}
    assert of(runs, "mc-dropout")[0]["arms"]["mc-dropout"]["mae"] == 99.9


def test_an_option_that_failed_is_not_chosen_unless_all_did(tmp_path):
    a_plan = plan("synaptic")
    low, high = a_plan.options("synaptic")
    error = {low: 1.0, high: 5.0}
    runs = run(tmp_path, a_plan, lambda cell, _: error[cell.option], failed={(low, TUNING_SEED)})[2]
    assert {run["option"] for run in runs} == {"sparsity 0.9"}

    failed = {(low, TUNING_SEED), (high, TUNING_SEED), (low, 1)}
    runs = run(tmp_path, a_plan, lambda cell, _: error[cell.option], failed=failed)[2]
    assert [run["status"] for run in of(runs, "synaptic").values()] == ["ok", "killed: signal 9", "ok"]


def test_an_arm_is_not_chosen_for_before_all_its_options_are_known(tmp_path):
    a_plan = plan("none", "synaptic")
    compared = cases(a_plan, [TIDES])
    first = expand(a_plan, compared)
    records = written(tmp_path, first, lambda *_: 1.0, ())
    open_ = [None if cell.option.sparsity == 0.9 else record for cell, record in zip(first, records, strict=True)]
    chosen = choose(first, open_, a_plan)
    assert {arm for _, arm in chosen} == {"none"}
    assert len(expand_chosen(a_plan, compared, chosen)) == 3


def test_a_failed_run_stays_in_the_table_and_its_partners_are_counted(tmp_path):
    a_plan = plan("none", "identical", grid=Grid())
    (dense,) = a_plan.options("none")
    runs = run(tmp_path, a_plan, lambda *_: 1.0, failed={(dense, 1)})[2]
    table = to_table(runs, {"tides": "harbour"}, {"tides": "nature"})
    assert set(table["source"]) == {"harbour"}
    assert set(table["domain"]) == {"nature"}
    assert table["status"].tolist().count("killed: signal 9") == 1
    assert len(table) == 6
    kept, left_out = paired(table)
    assert left_out == 2  # the failed run and the partner of its seed that did end well
    assert sorted(zip(kept["arm"], kept["seed"], strict=True)) == [
        (arm, seed) for arm in ("identical", "none") for seed in (0, 2)
    ]


def test_an_ensemble_is_the_mean_forecast_of_its_members(tmp_path):
    cells, records, runs = run(tmp_path, ENSEMBLE, lambda *_: 1.0)
    assert {cell.option.sparsity for cell in cells} == {0.5}  # two members, half of the weights each
    ensembles = of(runs, "synaptic-ensemble")
    assert list(ensembles) == [0, 2, 4]
    for seed, (one, other) in {0: (0, 1), 2: (2, 3), 4: (4, 5)}.items():
        ensemble = ensembles[seed]
        assert ensemble["members"] == [records[one]["hash"], records[other]["hash"]]
        # Members forecast truth + place, the mean of both is off by the mean of the places everywhere.
        off = (one + other) / 2
        scores = ensemble["arms"]["synaptic-ensemble"]
        assert scores["mae"] == pytest.approx(off)
        assert scores["rmse"] == pytest.approx(off)
        assert scores["mase"] == pytest.approx(off / 4)
        assert scores["skill"] == pytest.approx(1 - off / 2)
        assert scores["validation_mae"] == pytest.approx(off)
        assert scores["validation_rmse"] == pytest.approx(off)
        assert scores["predict_seconds"] == (1.0 + one) + (1.0 + other)
        assert ensemble["alive"] == 200 + one + other
        assert ensemble["sparsity"] == pytest.approx(1 - (200 + one + other) / 1000)
        assert ensemble["train_seconds"] == 4.0
        assert ensemble["peak_memory_mb"] == 50.0 + max(one, other)
        shown = ensemble["tail"]["forecasts"]["synaptic-ensemble"]
        np.testing.assert_allclose(shown, [1 + off, 2 + off, np.nan, 4 + off])


def test_the_mean_of_the_forecasts_is_scored_not_the_mean_of_the_scores(tmp_path):
    cells, records, _ = run(tmp_path, ENSEMBLE, lambda *_: 1.0)
    for sign, cell in zip((-1, 1, 3, 3, -1, 3), cells, strict=True):
        np.savez(
            tmp_path / f"{cell.hash}.npz", **TRUTH, **{f"{part} 0": values + sign for part, values in TRUTH.items()}
        )
    chosen = only_options(ENSEMBLE, [case for case, _ in cases(ENSEMBLE, [TIDES])])
    runs = select(cells, records, chosen, ENSEMBLE, tmp_path)
    maes = [run["arms"]["synaptic-ensemble"]["mae"] for run in of(runs, "synaptic-ensemble").values()]
    assert maes == [0.0, 3.0, 1.0]  # the mean of the members' own errors would be 1, 3, 2


def test_an_ensemble_with_a_failed_member_has_failed_and_says_why(tmp_path):
    (option,) = ENSEMBLE.options("synaptic-ensemble")
    runs = run(tmp_path, ENSEMBLE, lambda *_: 1.0, failed={(option, 1)})[2]
    status = {seed: one["status"] for seed, one in of(runs, "synaptic-ensemble").items()}
    assert status == {0: "killed: signal 9", 2: "ok", 4: "ok"}
    table = to_table(runs, {}, {})
    assert table["seed"].tolist() == [0, 2, 4]
    assert table["mae"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("arm", "size"), [("synaptic-ensemble", 5), ("dense-ensemble-x2", 2), ("dense-ensemble-x3", 3)]
)
def test_no_two_runs_of_an_ensemble_share_a_network(tmp_path, arm, size):
    _, _, runs = run(tmp_path, plan("none", "synaptic", arm, grid=Grid()), lambda *_: 1.0)
    ensembles = of(runs, arm)
    members = [name for one in ensembles.values() for name in one["members"]]
    assert len(members) == len(set(members)) == 3 * size
    assert {one["option"] for one in ensembles.values()} == {f"{size} × sparsity 0.8" if size == 5 else f"{size}"}
    # The single networks are the first of them, and are not trained twice.
    single = {one["hash"] for one in of(runs, "synaptic" if size == 5 else "none").values()}
    assert single < set(members)


def test_arms_without_enough_options_or_models_are_refused_before_any_training(tmp_path):
    for a_plan, said in (
        (plan("synaptic-ensemble", grid=Grid(sparsity=(0.4,))), r"goes up to 0\.4, and several networks that sparse"),
        (plan("none", "dropout", grid=replace(GRID, weight_decay=(0.0,))), "arm 'none' has 1 combinations"),
        (replace(plan("locked-dropout"), models=("lstm", "mlp")), "exists for rnn and lstm alone, not for 'mlp'"),
    ):
        with pytest.raises(DataError, match=said):
            compare_series([TIDES], a_plan, tmp_path, executor=Processes(1, run_job), about=About(""))
        assert not list(tmp_path.iterdir())


def test_as_many_narrow_dense_networks_are_the_control_of_a_sparse_ensemble(tmp_path):
    arms = plan("synaptic-ensemble", "narrow-ensemble", grid=Grid(sparsity=(0.75,)))
    cells, _, runs = run(tmp_path, arms, lambda *_: 1.0)
    assert sorted((cell.option.prunes, cell.seed) for cell in cells) == [
        (p, s) for p in (False, True) for s in range(12)
    ]
    sparse, narrow = of(runs, "synaptic-ensemble"), of(runs, "narrow-ensemble")
    assert [len(one["members"]) for one in (*sparse.values(), *narrow.values())] == [4] * 6
    assert [one["sparsity"] for one in narrow.values()] == [0] * 3


def test_an_ensemble_does_not_touch_the_records_of_its_members(tmp_path):
    _, records, runs = run(tmp_path, plan("synaptic", "synaptic-ensemble", grid=Grid(sparsity=(0.5,))), lambda *_: 1.0)
    assert len(runs) == 6
    single = of(runs, "synaptic")
    assert [single[seed]["alive"] for seed in SEEDS] == [record["alive"] for record in records[:3]]
    assert all(list(one["arms"]) == ["synaptic"] and "members" not in one for one in single.values())


def test_what_is_published_of_the_options_and_the_forecasts(tmp_path):
    a_plan = plan("dropout", "mc-dropout")
    compared = cases(a_plan, [TIDES])
    first = expand(a_plan, compared)
    low, _ = a_plan.options("dropout")
    records = written(tmp_path, first, lambda cell, passes: cell.option.dropout + passes, {(low, TUNING_SEED)})
    table = to_options_table(first, records)
    assert table["option"].tolist() == ["dropout 0.1"] * 2 + ["dropout 0.3"] * 2
    assert table["passes"].tolist() == [0, 50] * 2
    assert table["status"].tolist() == ["killed: signal 9"] * 2 + ["ok"] * 2
    assert table["validation_mae"].tolist()[2:] == [0.3, 50.3]
    assert table["validation_rmse"].tolist()[2:] == [0.6, 100.6]
    assert table["validation_mae"].isna().tolist() == [True, True, False, False]
    none_well = to_options_table(
        first, written(tmp_path, first, lambda *_: 1.0, {(cell.option, cell.seed) for cell in first})
    )
    assert none_well.dtypes.equals(table.dtypes)
    assert none_well["validation_mae"].isna().all()

    _, _, runs = run(tmp_path, a_plan, lambda cell, passes: cell.option.dropout + passes)
    found = gather_forecasts(runs, a_plan, tmp_path)
    assert len(found) == 2 + 2 * 2 * 3  # the truth of both parts; two arms, two parts, three seeds
    where = "tides / multivariate / 1"
    np.testing.assert_array_equal(found[f"{where} / test"], TRUTH["test"])
    apart = found[f"{where} / rnn / 3 / mc-dropout / 2 / test"] - found[f"{where} / rnn / 3 / dropout / 2 / test"]
    assert apart[[0, 1, 3]].tolist() == [[500.0]] * 3


def test_select_leaves_the_records_as_they_were(tmp_path):
    a_plan = plan("none", "synaptic-ensemble", grid=Grid(sparsity=(0.5,)))
    cells, records, _ = run(tmp_path, a_plan, lambda *_: 1.0)
    before = copy.deepcopy(records)
    chosen = only_options(a_plan, [case for case, _ in cases(a_plan, [TIDES])])
    select(cells, records, chosen, a_plan, tmp_path)
    assert json.dumps(records) == json.dumps(before)
