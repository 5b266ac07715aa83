"""A kept forecaster: its forecasts are those worked out in NumPy from the files of its folder alone."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from synaptic_pruning.export import read
from synaptic_pruning.study.engine import Processes
from synaptic_pruning.study.engine.local import attempt
from synaptic_pruning.study.engine.records import write_record
from synaptic_pruning.study.forecaster import Forecaster, extend
from synaptic_pruning.study.forecaster.choice import choose_run
from synaptic_pruning.study.forecaster.description import Description
from synaptic_pruning.study.forecasting import Grid, Plan, run_job
from synaptic_pruning.tasks.forecasting import DataError, Recent, Series, build_model, make_task, predict

PLAN = Plan(("rnn",), ("synaptic",), (5,), (2,), seeds=1, epochs=2, baselines=(), grid=Grid(sparsity=(0.7,)))


class InThisProcess(Processes):
    """Cells one after the other, without a process of their own."""

    def __init__(self):
        self.jobs = 1

    def room(self, running):
        return running < 1

    def start(self, cell, data, folder):
        write_record(folder, cell, attempt(run_job, cell, data, folder))
        return cell.hash

    def wait(self, running, folder):
        return list(running)

    def stop(self, running):
        pass


def sales(rows=150, seed=0):
    generator = np.random.default_rng(seed)
    days = np.asarray(pd.date_range("2024-01-01", periods=rows, freq="D").as_unit("ns"))
    price = generator.uniform(1, 2, rows)
    flat = np.full(rows, 3.0)
    target = 50 + 20 * np.sin(np.arange(rows) * 2 * np.pi / 7) - 10 * price + generator.standard_normal(rows)
    return Series("shop", "sold", ("sold", "price", "flat"), days, np.column_stack([target, price, flat]), season=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    search = folder / "search"
    search.mkdir()
    fitted = Forecaster.fit(sales(), PLAN, search, executor=InThisProcess(), known=["price"], calendar=True)
    fitted.save(folder / "kept")
    fitted.forecast(known_ahead()).to_pickle(folder / "forecast.pkl")
    return folder


def known_ahead():
    """Twelve later rows, the price of two more days, and no sales on those."""
    later = sales(180, seed=1)
    values = later.values[151:165].copy()
    values[-2:, 0] = np.nan
    values[-2:, 2] = np.nan
    return Recent("shop", "sold", later.columns, later.times[151:165], values, season=7)


def by_hand(kept, rows):
    """An Elman network in NumPy, on the window scaled with the numbers of the JSON file."""
    about = json.loads((kept / "forecaster.json").read_text())
    state = {name: tensor.double().numpy() for name, tensor in read(kept / "weights.safetensors").items()}
    weekday = 2 * np.pi * pd.DatetimeIndex(rows.times).day_of_week.to_numpy() / 7
    price = np.append(rows.values[2:, 1], [np.nan, np.nan])
    channels = np.column_stack([rows.values[:, 0], price, rows.values[:, 2], np.sin(weekday), np.cos(weekday)])
    window = channels[-7:-2]
    mean = np.array(about["scaling"]["mean"])
    scale = np.array([np.inf if value is None else value for value in about["scaling"]["scale"]])
    hidden = np.zeros(64)
    for row in (window - mean) / scale:
        hidden = np.tanh(
            state["recurrent.weight_ih_l0"] @ row
            + state["recurrent.bias_ih_l0"]
            + state["recurrent.weight_hh_l0"] @ hidden
            + state["recurrent.bias_hh_l0"]
        )
    output = state["head.weight"] @ hidden + state["head.bias"]
    return window[-1, 0] + output * about["network"]["unit"] * scale[0]


def test_a_forecast_is_what_numpy_makes_of_the_folder(folder):
    rows = known_ahead()
    forecast = Forecaster.load(folder / "kept").forecast(rows)
    np.testing.assert_allclose(forecast["forecast"], by_hand(folder / "kept", rows), rtol=1e-5)
    assert list(forecast["time"]) == list(rows.times[-2:])
    about = json.loads((folder / "kept" / "forecaster.json").read_text())
    widths = about["intervals"]["half_widths"]
    np.testing.assert_allclose(forecast["high"] - forecast["forecast"], widths)
    np.testing.assert_allclose(forecast["forecast"] - forecast["low"], widths)
    pd.testing.assert_frame_equal(forecast, pd.read_pickle(folder / "forecast.pkl"))  # before it was saved


def test_the_folder_holds_weights_and_json_alone(folder):
    assert sorted(path.name for path in (folder / "kept").iterdir()) == ["forecaster.json", "weights.safetensors"]
    about = json.loads((folder / "kept" / "forecaster.json").read_text())
    assert about["data"]["columns"] == ["sold", "price", "flat"]
    assert (about["data"]["frequency"], about["data"]["season"], about["data"]["rows"]) == ("D", 7, 150)
    assert about["scaling"]["scale"][2] is None  # a channel that does not vary
    state = read(folder / "kept" / "weights.safetensors")
    weights = [tensor for tensor in state.values() if tensor.dim() > 1]
    zero = sum(int((tensor == 0).sum()) for tensor in weights) / sum(tensor.numel() for tensor in weights)
    assert zero == pytest.approx(about["chosen"]["sparsity"], abs=1e-12) == pytest.approx(0.7, abs=0.002)


def test_scaler_epochs_intervals_and_metrics_are_those_of_the_trainings(folder):
    about = json.loads((folder / "kept" / "forecaster.json").read_text())
    values = sales().values
    np.testing.assert_allclose(about["scaling"]["mean"][0], values[:, 0].mean())
    np.testing.assert_allclose(about["scaling"]["scale"][1], values[2:, 1].std())
    (search,) = (folder / "search" / "cells").glob("*.json")
    record = json.loads(search.read_text())
    assert about["chosen"]["epochs"] == record["best_epoch"]
    assert about["metrics"]["mae"] == record["answers"]["0"]["mae"]
    stored = np.load(search.with_suffix(".npz"))
    errors = np.abs(stored["test 0"] - values[120 + np.arange(29)[:, None] + [0, 1], 0])
    # Of 29 errors the 27th is the smallest that leaves at most a tenth of 30 above it; of 14 it is the 14th.
    np.testing.assert_allclose(about["intervals"]["half_widths"], np.sort(errors, 0)[26])
    late = errors[15:] <= errors[:14].max(0)
    assert about["intervals"]["coverage"] == late.mean()
    assert about["intervals"]["coverage_by_step"] == late.mean(0).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: replace(r, columns=("sold", "cost", "flat")), "lacks the column 'price'"),
        (lambda r: replace(r, times=np.arange(len(r.times))), "has numbers for times, and the forecaster knows dates"),
        (
            lambda r: replace(r, times=r.times[0] + (r.times - r.times[0]) * 2),
            "2024-06-02 .* does not follow 2024-05-31",
        ),
        (lambda r: replace(r, times=r.times[-5:], values=r.values[-5:]), "has 3 rows .* the window takes 5"),
        (lambda r: replace(r, times=r.times[:-1], values=r.values[:-1]), "must give 'price', which is known ahead"),
        (lambda r: replace(r, values=r.values * [[np.nan, 1, 1]]), "no value of 'sold'"),
    ],
)
def test_rows_that_cannot_be_forecast_are_refused(folder, change, message):
    with pytest.raises(DataError, match=message) as error:
        Forecaster.load(folder / "kept").forecast(change(known_ahead()))
    assert str(error.value).count(". ") == 0


def test_rows_of_the_past_and_inputs_without_a_value_are_warned_of(folder):
    kept, rows = Forecaster.load(folder / "kept"), sales()
    values = rows.values.copy()
    values[-2:, 0] = np.nan
    with pytest.warns(UserWarning, match="2024-05-27 .* before those of training did at 2024-05-29"):
        kept.forecast(replace(rows, values=values))
    values = known_ahead().values.copy()
    values[:, 2] = np.nan
    with pytest.warns(UserWarning, match="without a value of flat; the mean of training"):
        kept.forecast(replace(known_ahead(), values=values))


def test_missing_values_take_the_last_one(folder):
    rows = known_ahead()
    values, filled = rows.values.copy(), rows.values.copy()
    values[9, 0], filled[9, 0] = np.nan, values[8, 0]
    kept = Forecaster.load(folder / "kept")
    pd.testing.assert_frame_equal(
        kept.forecast(replace(rows, values=values)), kept.forecast(replace(rows, values=filled))
    )


def copied(folder, tmp_path, **entries):
    """The folder with other entries in its JSON, and a file of weights that is as it was."""
    shutil.copytree(folder / "kept", tmp_path / "kept")
    path = tmp_path / "kept" / "forecaster.json"
    about = json.loads(path.read_text())
    for place, value in entries.items():
        *outer, name = place.split("__")
        inner = about
        for key in outer:
            inner = inner[key]
        if value is None:
            del inner[name]
        else:
            inner[name] = value
    path.write_text(json.dumps(about))
    return tmp_path / "kept"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": 2}, "has format 2; this program reads 1"),
        ({"scaling": None}, "damaged: scaling: Field required"),
        ({"scaling__mean": [1.0]}, "damaged: .*scaling.mean has 1 entries for 5 channels"),
        ({"scaling__scale": [1.0, 0.0, 1.0, 1.0, 1.0]}, "damaged: scaling.scale.1"),
        ({"network__length": 10**12}, "damaged: network.length"),
        ({"network__model": "os.system"}, "damaged: network.model"),
        ({"network__model": "lstm"}, "holds another network"),
        ({"network__horizon": 3}, "intervals.half_widths has 2 entries"),
        ({"data__frequency": "fortnight"}, "damaged: data.frequency: .*'fortnight' is no step of times"),
        ({"data__frequency": "-1D"}, "'-1D' is no step"),
        ({"data__reading__path": "/etc/passwd"}, "damaged: data.reading.path: Extra inputs"),
        ({"data__reading__separator": 3}, "damaged: data.reading.separator"),
        ({"code": "import os"}, "damaged: code: Extra inputs"),
        ({"weights": "0" * 64}, "weights.safetensors is damaged, or of another forecaster.json"),
    ],
)
def test_damaged_folders_are_refused(folder, tmp_path, entries, message):
    with pytest.raises(DataError, match=message):
        Forecaster.load(copied(folder, tmp_path, **entries))


def test_weights_that_are_not_finite_are_refused(folder, tmp_path):
    kept = Forecaster.load(folder / "kept")
    torch.nn.init.constant_(kept.network.head.bias, torch.inf)
    kept.save(tmp_path)
    with pytest.raises(DataError, match="not finite"):
        Forecaster.load(tmp_path)


def test_what_cannot_be_fitted_is_refused_before_training(tmp_path):
    for arguments, message in [
        ({"level": 1.0}, r"level=1\.0 must be above 0"),
        ({"reading": {"sep": ";"}}, "reading names 'sep', which is no argument; use time, "),
        ({"known": ["sold"]}, "known='sold' is no input"),
    ]:
        with pytest.raises(DataError, match=message):
            Forecaster.fit(sales(), PLAN, tmp_path, **arguments)
    for changes, message in [
        ({"arms": ("none", "mc-dropout")}, "arm 'mc-dropout' is not one network asked once"),
        ({"arms": ("dense-ensemble-x2",)}, "arm 'dense-ensemble-x2' is not one network"),
        ({"horizons": (1, 2)}, r"horizons=\(1, 2\)"),
        ({"regimes": ("features",)}, r"regimes=\('features',\)"),
    ]:
        with pytest.raises(DataError, match=message):
            Forecaster.fit(sales(), replace(PLAN, **changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(folder, tmp_path):
    kept = copied(folder, tmp_path)
    weights = kept / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged, or of another"):
        Forecaster.load(kept)
    weights.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        Forecaster.load(kept)
    (kept / "forecaster.json").write_text("{")
    with pytest.raises(DataError, match="it is not JSON"):
        Forecaster.load(kept)
    with pytest.raises(DataError, match="give a folder that `fit` wrote"):
        Forecaster.load(tmp_path / "absent")


@pytest.mark.parametrize("model", ["lstm", "patchtst", "mlp"])
def test_every_network_comes_back(folder, tmp_path, model):
    kept = Forecaster.load(folder / "kept")
    sizes = kept.description.network.model_copy(update={"model": model, "keep": 0.5})
    arguments = {name: value for name, value in sizes.model_dump().items() if name != "model"}
    network = build_model(model, channels=5, **arguments).eval()
    one = Forecaster(network, kept.description.model_copy(update={"network": sizes}))
    one.save(tmp_path)
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path).forecast(known_ahead()), one.forecast(known_ahead()))


@pytest.mark.parametrize(("model", "target"), [("patchtst", "delta"), ("patchtst", "level"), ("lstm", "level")])
def test_forecasts_of_rows_are_those_of_the_windows_of_a_task(folder, model, target):
    series, about = sales(), Forecaster.load(folder / "kept").description
    seen = extend(series, horizon=2, known=["price"], calendar=["weekday"])
    task = make_task(seen, length=5, horizon=2, predict=target)
    sizes = {"length": 5, "horizon": 2, "predict": target, "unit": task.unit}
    network = build_model(model, channels=5, **sizes).eval()
    scale = [value if np.isfinite(value) else None for value in task.scaler.scale.tolist()]
    changes = {
        "network": {**about.network.model_dump(), **sizes, "model": model},
        "scaling": {"mean": task.scaler.mean.tolist(), "scale": scale},
    }
    kept = Forecaster(network, Description.model_validate({**about.model_dump(), **changes}))
    wanted = task.to_units(predict(network, task.test), task.test)
    for place in (0, 7, len(task.test) - 1):
        end = task.test.origins[place] + 3
        values = series.values[end - 10 : end].copy()
        values[-2:, 0] = np.nan
        with pytest.warns(UserWarning, match="before those of training"):
            found = kept.forecast(replace(series, times=series.times[end - 10 : end], values=values))
        np.testing.assert_allclose(found["forecast"], wanted[place], rtol=1e-5)


def runs(**columns):
    """A table of runs: two windows and three arms with two seeds each, and a baseline."""
    rows = [
        {"model": "rnn", "length": length, "arm": arm, "seed": seed, "validation_mae": error, "best_epoch": epoch}
        for length, arm, seed, error, epoch in [
            (5, "none", 0, 1.0, 4),
            (5, "none", 1, 3.0, 4),
            (7, "none", 0, 2.5, 9),
            (7, "none", 1, 2.5, 9),
            (5, "set", 1, 1.4, 6),
            (5, "set", 0, 2.0, 3),
            (5, "mc-dropout", 0, 0.1, 1),
            (5, "dense-ensemble-x2", 0, 0.1, 1),
            (5, "broken", 0, 0.1, 1),
        ]
    ]
    rows.append({"model": "", "length": 5, "arm": "ridge", "seed": None, "validation_mae": 0.1, "best_epoch": None})
    table = pd.DataFrame(rows).assign(data_hash="d", status="ok", regime="multivariate", protocol="rigorous", horizon=2)
    return table.assign(config_hash=[f"h{place}" for place in range(len(table))], **columns)


def test_the_choice_is_that_of_the_smallest_mean_validation_error(folder, tmp_path):
    (search,) = (folder / "search" / "cells").glob("*.json")
    shutil.copy(search, tmp_path / "h5.json")  # of set, the first seed
    choice = choose_run(runs(), tmp_path, "d")
    assert (choice.arm, choice.epochs, choice.candidates) == ("set", round((6 + 3) / 2), 3)
    assert choice.cell.hash == search.stem


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"data_hash": "e"}, "holds no run of these data"),
        ({"status": "nan-loss: "}, "holds no finished run of one network"),
        ({"regime": "features"}, "holds no finished run of one network"),
        ({"horizon": [1, 1, 2, 2, 1, 1, 1, 1, 1, 1]}, "holds the horizons 1, 2"),
        ({}, "h5.json cannot be read"),
    ],
)
def test_comparisons_without_a_choice_are_refused(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        choose_run(runs(**columns), tmp_path, "d")


def test_the_series_must_be_that_of_the_comparison(folder, tmp_path):
    with pytest.raises(DataError, match="holds no results"):
        Forecaster.from_comparison(sales(), tmp_path)
    pd.DataFrame({"arm": ["none"]}).to_parquet(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="holds no comparison of forecasts"):
        Forecaster.from_comparison(sales(), tmp_path)
    runs().to_parquet(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="holds no run of these data"):
        Forecaster.from_comparison(sales(), tmp_path)


@pytest.mark.slow
def test_the_example_of_the_page(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "guides" / "forecast.md").read_text()
    (tmp_path / "example.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=environment, check=True, timeout=600)
    assert len(Forecaster.load(tmp_path / "model").description.intervals.half_widths) == 3
