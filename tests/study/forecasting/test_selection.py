"""What an arm chooses, on records written by hand: validation decides, the test error lies."""

import copy
import io
import json

import numpy as np
import pytest

from synaptic_pruning.study.engine.local import Processes
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting.arms import Grid
from synaptic_pruning.study.forecasting.compare import compare_series
from synaptic_pruning.study.forecasting.plan import Plan, expand
from synaptic_pruning.study.forecasting.results import select, to_table
from synaptic_pruning.study.forecasting.run import run_job
from synaptic_pruning.study.statistics import paired
from synaptic_pruning.tasks.forecasting.data.series import DataError, Series

TIDES = Series("tides", "y", ("y",), np.arange(40), np.sin(np.arange(40.0))[:, None], season=12)
TRUTH = {"test": np.array([[1.0], [2.0], [np.nan], [4.0]]), "validation": np.array([[0.0], [10.0]])}
GRID = Grid(dropout=(0.1, 0.3), sparsity=(0.7, 0.9), weight_decay=(1e-4, 1e-2))
SEEDS = (0, 1, 2)


def plan(*arms, protocol="rigorous"):
    return Plan(
        models=("rnn",), arms=arms, lengths=(3,), horizon=1, seeds=SEEDS, epochs=1, grid=GRID, protocol=protocol
    )


ENSEMBLE = Plan(**{**plan("synaptic-ensemble").__dict__, "grid": Grid(sparsity=(0.5,))})


def run(folder, a_plan, validation, failed=()):
    """Select from records in which `validation(regime, passes, seed)` is the error; the test error is its opposite.

    Forecasts are the truth plus a number of their own, so that a mix-up shows.
    """
    cells, records = expand(a_plan, [TIDES]), []
    for place, cell in enumerate(cells):
        record = {"cell": cell.to_dict(), "hash": cell.hash, "status": "ok"}
        if (cell.regime, cell.seed) in failed:
            records.append(record | {"status": "killed: signal 9"})
            continue
        answers, forecasts = {}, {}
        for passes in cell.passes:
            error = validation(cell.regime, passes, cell.seed)
            answers[str(passes)] = {"mae": 100 - error, "validation_mae": error, "predict_seconds": 1.0 + place}
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
            }
        )
    return cells, records, select(cells, records, a_plan, folder)


def of(runs, arm):
    """The runs of an arm, by seed."""
    found = [run for run in runs if {"name": arm} in run["cell"]["arms"]]
    return {run["cell"]["seed"]: run for run in found}


def test_the_setting_with_the_smallest_mean_validation_error_wins_whatever_the_test_says(tmp_path):
    # 0.7 is better on one seed, 0.9 on average; the test errors (100 - validation) say the opposite.
    errors = {0.7: (1.0, 6.0, 6.0), 0.9: (4.0, 4.0, 4.0)}
    runs = run(tmp_path, plan("synaptic"), lambda regime, _, seed: errors[regime.sparsity][seed])[2]
    chosen = of(runs, "synaptic")
    assert [run["setting"] for run in chosen.values()] == ["sparsity 0.9"] * 3
    assert [run["arms"]["synaptic"]["mae"] for run in chosen.values()] == [96.0] * 3
    assert len(runs) == 3  # the other setting's trainings are not runs


def test_every_group_chooses_for_itself(tmp_path):
    a_plan = Plan(**{**plan("weight-decay").__dict__, "lengths": (3, 5)})
    cells, records, runs = run(tmp_path, a_plan, lambda regime, *_: regime.weight_decay)
    for cell, record in zip(cells, records, strict=True):  # the other way round for the longer window
        if cell.length == 5:
            record["answers"]["0"]["validation_mae"] = -cell.regime.weight_decay
    runs = select(cells, records, a_plan, tmp_path)
    assert {(run["cell"]["length"], run["setting"]) for run in runs} == {
        (3, "weight decay 0.0001"),
        (5, "weight decay 0.01"),
    }


def test_mc_dropout_chooses_by_its_own_validation_error_and_shares_records_where_they_agree(tmp_path):
    single, many = {0.1: 1.0, 0.3: 2.0}, {0.1: 2.0, 0.3: 1.0}
    apart = run(
        tmp_path, plan("dropout", "mc-dropout"), lambda regime, passes, _: (many if passes else single)[regime.dropout]
    )[2]
    assert [run["setting"] for run in of(apart, "dropout").values()] == ["dropout 0.1"] * 3
    assert [run["setting"] for run in of(apart, "mc-dropout").values()] == ["dropout 0.3"] * 3
    assert len(apart) == 6

    same = run(tmp_path, plan("dropout", "mc-dropout"), lambda regime, passes, _: regime.dropout + passes)[2]
    assert len(same) == 3
    for one in same:
        assert one["cell"]["arms"] == [{"name": "dropout"}, {"name": "mc-dropout"}]
        assert one["arms"]["dropout"]["mae"] == 99.9
        assert one["arms"]["mc-dropout"]["mae"] == pytest.approx(49.9)
        shown = one["tail"]["forecasts"]
        assert np.subtract(shown["mc-dropout"], shown["dropout"])[[0, 1, 3]].tolist() == [500.0] * 3


def test_the_released_protocol_calls_one_pass_mc_dropout(tmp_path):
    cells, _, runs = run(tmp_path, plan("mc-dropout", protocol="paper"), lambda regime, *_: regime.dropout)
    assert {cell.passes for cell in cells} == {(1,)}
    assert of(runs, "mc-dropout")[0]["arms"]["mc-dropout"]["mae"] == 99.9


def test_a_setting_with_a_failed_seed_is_not_chosen_unless_all_have_one(tmp_path):
    a_plan = plan("synaptic")
    low, high = a_plan.candidates("synaptic")
    error = {low: 1.0, high: 5.0}
    runs = run(tmp_path, a_plan, lambda regime, *_: error[regime], failed={(low, 2)})[2]
    assert {run["setting"] for run in runs} == {"sparsity 0.9"}

    runs = run(tmp_path, a_plan, lambda regime, *_: error[regime], failed={(low, 2), (high, 0)})[2]
    assert [run["status"] for run in of(runs, "synaptic").values()] == ["ok", "ok", "killed: signal 9"]


def test_a_failed_run_stays_in_the_table_and_its_partners_are_counted(tmp_path):
    a_plan = plan("none", "identical")
    (dense,) = a_plan.candidates("none")
    runs = run(tmp_path, a_plan, lambda *_: 1.0, failed={(dense, 1)})[2]
    table = to_table(runs)
    assert table["status"].tolist().count("killed: signal 9") == 1
    assert len(table) == 6
    kept, left_out = paired(table)
    assert left_out == 2  # the failed run and the partner of its seed that did end well
    assert sorted(zip(kept["arm"], kept["seed"], strict=True)) == [
        (arm, seed) for arm in ("identical", "none") for seed in (0, 2)
    ]


def test_an_ensemble_is_the_mean_forecast_of_its_members(tmp_path):
    cells, records, runs = run(tmp_path, ENSEMBLE, lambda *_: 1.0)
    assert {cell.regime.sparsity for cell in cells} == {0.5}  # two members, half of the weights each
    ensembles = of(runs, "synaptic-ensemble")
    assert list(ensembles) == [0, 1, 2]
    for seed, (one, other) in {0: (0, 1), 1: (1, 2), 2: (2, 0)}.items():
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
        assert scores["predict_seconds"] == (1.0 + one) + (1.0 + other)
        assert ensemble["alive"] == 200 + one + other
        assert ensemble["sparsity"] == pytest.approx(1 - (200 + one + other) / 1000)
        assert ensemble["train_seconds"] == 4.0
        assert ensemble["peak_memory_mb"] == 50.0 + max(one, other)
        shown = ensemble["tail"]["forecasts"]["synaptic-ensemble"]
        np.testing.assert_allclose(shown, [1 + off, 2 + off, np.nan, 4 + off])


def test_the_mean_of_the_forecasts_is_scored_not_the_mean_of_the_scores(tmp_path):
    cells, records, _ = run(tmp_path, ENSEMBLE, lambda *_: 1.0)
    for sign, cell in zip((-1, 1, 3), cells, strict=True):
        np.savez(
            tmp_path / f"{cell.hash}.npz", **TRUTH, **{f"{part} 0": values + sign for part, values in TRUTH.items()}
        )
    runs = select(cells, records, ENSEMBLE, tmp_path)
    maes = [run["arms"]["synaptic-ensemble"]["mae"] for run in of(runs, "synaptic-ensemble").values()]
    assert maes == [0.0, 2.0, 1.0]  # the mean of the members' own errors would be 1, 2, 2


def test_an_ensemble_with_a_failed_member_has_failed_and_says_why(tmp_path):
    a_plan = ENSEMBLE
    (regime,) = a_plan.candidates("synaptic-ensemble")
    runs = run(tmp_path, a_plan, lambda *_: 1.0, failed={(regime, 1)})[2]
    status = {seed: one["status"] for seed, one in of(runs, "synaptic-ensemble").items()}
    assert status == {0: "killed: signal 9", 1: "killed: signal 9", 2: "ok"}
    table = to_table(runs)
    assert table["seed"].tolist() == [0, 1, 2]
    assert table["mae"].isna().tolist() == [True, True, False]


def test_an_ensemble_of_more_members_than_seeds_trains_only_its_own_further_seeds(tmp_path):
    grid = Grid(sparsity=(0.4, 0.8), dropout=(0.1, 0.3), weight_decay=(1e-4, 1e-2))
    a_plan = Plan(**{**plan("none", "synaptic", "synaptic-ensemble").__dict__, "grid": grid})
    # The further seeds are the best of all, but the single network does not know them and takes 40 %.
    cells, records, runs = run(tmp_path, a_plan, lambda regime, _, seed: 0.0 if seed > 2 else regime.sparsity)
    trained = {s: sorted(cell.seed for cell in cells if cell.regime.sparsity == s) for s in (0.0, 0.4, 0.8)}
    assert trained == {0.0: [0, 1, 2], 0.4: [0, 1, 2], 0.8: [0, 1, 2, 3, 4]}
    assert sorted(of(runs, "none")) == sorted(of(runs, "synaptic")) == [0, 1, 2]
    assert {one["setting"] for one in of(runs, "synaptic").values()} == {"sparsity 0.4"}
    hashes = {record["hash"] for cell, record in zip(cells, records, strict=True) if cell.regime.sparsity == 0.8}
    ensembles = of(runs, "synaptic-ensemble")
    assert sorted(ensembles) == [0, 1, 2]
    assert [one["setting"] for one in ensembles.values()] == ["5 × sparsity 0.8"] * 3
    assert all(set(one["members"]) == hashes for one in ensembles.values())


def test_an_ensemble_that_cannot_be_put_together_is_refused_before_any_training(tmp_path):
    a_plan = Plan(**{**ENSEMBLE.__dict__, "grid": Grid(sparsity=(0.4,))})
    with pytest.raises(DataError, match=r"goes up to 0\.4, and several networks that sparse have more weights"):
        compare_series([TIDES], a_plan, tmp_path, executor=Processes(1, run_job), about=About(""))
    assert not list(tmp_path.iterdir())


def test_an_ensemble_takes_the_setting_whose_mean_forecast_is_best_on_validation_data(tmp_path):
    offsets = {0.4: (0, 0, 0), 0.5: (4, -4, 4), 0.6: (2, 2, 2)}  # of 40 % two would cost more than one dense network
    grid = {"grid": Grid(sparsity=tuple(offsets))}
    a_plan = Plan(**{**plan("synaptic", "synaptic-ensemble").__dict__, **grid})
    cells, records, _ = run(tmp_path, a_plan, lambda regime, _, seed: abs(offsets[regime.sparsity][seed]))
    for cell in cells:
        off = offsets[cell.regime.sparsity][cell.seed]
        forecasts = {"test 0": TRUTH["test"], "validation 0": TRUTH["validation"] + off}
        np.savez(tmp_path / f"{cell.hash}.npz", **TRUTH, **forecasts)
    runs = select(cells, records, a_plan, tmp_path)
    assert {one["setting"] for one in of(runs, "synaptic").values()} == {"sparsity 0.4"}
    ensembles = of(runs, "synaptic-ensemble")
    assert [one["setting"] for one in ensembles.values()] == ["2 × sparsity 0.5"] * 3
    errors = [one["arms"]["synaptic-ensemble"]["validation_mae"] for one in ensembles.values()]
    assert errors == [0, 0, 4]  # less than 2 on average, the members' own errors are 4


def test_as_many_narrow_dense_networks_are_the_control_of_a_sparse_ensemble(tmp_path):
    arms = plan("synaptic-ensemble", "narrow-ensemble")
    a_plan = Plan(**{**arms.__dict__, "grid": Grid(sparsity=(0.75,))})
    cells, _, runs = run(tmp_path, a_plan, lambda *_: 1.0)
    assert sorted((cell.regime.prunes, cell.seed) for cell in cells) == [
        (p, s) for p in (False, True) for s in range(4)
    ]
    sparse, narrow = of(runs, "synaptic-ensemble"), of(runs, "narrow-ensemble")
    assert [len(one["members"]) for one in (*sparse.values(), *narrow.values())] == [4] * 6
    assert [one["sparsity"] for one in narrow.values()] == [0] * 3


def test_an_ensemble_does_not_touch_the_records_of_its_members(tmp_path):
    a_plan = Plan(**{**plan("synaptic", "synaptic-ensemble").__dict__, "grid": Grid(sparsity=(0.5,))})
    _, records, runs = run(tmp_path, a_plan, lambda *_: 1.0)
    assert len(runs) == 6
    single = of(runs, "synaptic")
    assert [single[seed]["alive"] for seed in SEEDS] == [record["alive"] for record in records]
    assert all(list(one["arms"]) == ["synaptic"] and "members" not in one for one in single.values())


def test_select_leaves_the_records_as_they_were(tmp_path):
    a_plan = Plan(**{**ENSEMBLE.__dict__, "arms": ("none", "synaptic-ensemble")})
    cells, records, _ = run(tmp_path, a_plan, lambda *_: 1.0)
    before = copy.deepcopy(records)
    once, again = (json.dumps(select(cells, records, a_plan, tmp_path)) for _ in range(2))
    assert once == again
    assert records == before
