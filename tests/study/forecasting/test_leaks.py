"""Change the future and train again: nothing that was decided before may move by a single bit.

Under the released protocol of Vos et al. the same check must sound the alarm, and so must leaks put in on purpose.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from helpers.combinations import in_turn, quick_or_slow
from helpers.planned import planned
from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.cells import Cell
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import make_cell_task, read_forecasts, run_cell
from synaptic_pruning.tasks.forecasting import training, windows
from synaptic_pruning.tasks.forecasting.data.builtin import embedded
from synaptic_pruning.tasks.forecasting.data.loading import load
from synaptic_pruning.tasks.forecasting.data.registry import DATASETS
from synaptic_pruning.tasks.forecasting.data.series import DataError, Series
from synaptic_pruning.tasks.forecasting.models import MODELS

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"
EMBEDDED = {series.name: series for series in embedded()}
ROWS, LENGTH, HORIZON = 200, 8, 2


def cells_of(series, model, arm, protocol="rigorous"):
    """The cells of an arm, short: 9 steps, two passes where 50 are promised; another model where it lacks this one."""
    model = model if model in (ARMS[arm].models or MODELS) else ARMS[arm].models[0]
    plan = Plan((model,), (arm,), (LENGTH,), (HORIZON,), 1, epochs=3, protocol=protocol)
    return [
        replace(cell, passes=tuple(min(2, passes) for passes in cell.passes)) for cell in planned(plan, [series])[:1]
    ]


@dataclass
class Outcome:
    """What came of a cell: by name, something that can be compared bit for bit."""

    of_training: dict[str, object]
    chosen: dict[str, object]


def outcome(cell: Cell, series: Series, folder: Path) -> Outcome:
    cell = replace(cell, data_hash=series.digest)
    task, record = make_cell_task(cell, series), run_cell(cell, series, folder)
    assert record["status"] == "ok"
    weights = load_file(folder / f"{cell.hash}.safetensors")
    forecasts = read_forecasts(folder, cell.hash)
    history = pd.DataFrame(record["history"]).drop(columns="seconds")
    assert (history["train_loss"] > 0).all()
    return Outcome(
        of_training={
            "scaler": (task.scaler.mean.tobytes(), task.scaler.scale.tobytes(), task.unit),
            "training windows": (task.train.inputs.numpy().tobytes(), task.train.targets.numpy().tobytes()),
            "training loss": history["train_loss"].tolist(),
            "sparsity": history["sparsity"].tolist(),
            "steps": record["steps"],
        },
        chosen={
            "history": history.to_dict("list"),
            "chosen epoch": record["best_epoch"],
            "weights": {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
            # The first test origin sees nothing of the test part.
            **{f"forecast {passes}": forecasts[f"test {passes}"][0].tobytes() for passes in cell.passes},
            **{f"validation {passes}": forecasts[f"validation {passes}"].tobytes() for passes in cell.passes},
        },
    )


def another_future(series: Series, row: int) -> Series:
    """The same up to `row`, from there on every value another one, and none is missing."""
    rng, values = np.random.default_rng(0), series.values.copy()
    centre, spread = np.nanmean(values[:, 0]), np.nanstd(values[:, 0])
    values[row:] = centre + spread * rng.uniform(3, 9, values[row:].shape) * rng.choice([-1, 1], values[row:].shape)
    return replace(series, values=values)


def changed(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


def leaks(cell: Cell, series: Series, folder: Path) -> set[str]:
    """What the future moved though it must not: the test part anything, the validation part the training."""
    validation, test = make_cell_task(cell, series).cuts
    as_it_was = outcome(cell, series, folder)
    after_test = outcome(cell, another_future(series, test), folder)
    found = changed(as_it_was.of_training | as_it_was.chosen, after_test.of_training | after_test.chosen)
    if validation == test:
        return found
    after_validation = outcome(cell, another_future(series, validation), folder)
    return found | changed(as_it_was.of_training, after_validation.of_training)


def stretch(series: Series) -> Series:
    """The first `ROWS` rows together in which there is something to learn and to score."""
    for first in range(0, len(series.values) - ROWS + 1, ROWS):
        rows = slice(first, first + ROWS)
        try:
            part = Series(
                series.name, series.target, series.columns, series.times[rows], series.values[rows], series.season
            )
            windows.make_task(part, length=LENGTH, horizon=HORIZON)
        except DataError:
            continue
        return part
    raise AssertionError(f"{series.name} has no stretch of {ROWS} rows that carries a task")


# Ensembles are made of the networks of other arms.
TRAINED = [name for name, arm in ARMS.items() if not arm.ensemble]
SUNSPOTS = stretch(EMBEDDED["sunspots"])


@in_turn(("arm", "model"), TRAINED, list(MODELS))
def test_the_future_moves_nothing(tmp_path, model, arm):
    for cell in cells_of(SUNSPOTS, model, arm):
        assert leaks(cell, SUNSPOTS, tmp_path) == set()


# Quick: each model with one arm, for it is the protocol that leaks.
@quick_or_slow(("arm", "model"), set(zip(TRAINED, MODELS, strict=False)), TRAINED, list(MODELS))
def test_the_released_protocol_is_caught(tmp_path, model, arm):
    for cell in cells_of(SUNSPOTS, model, arm, "paper"):
        found = leaks(cell, SUNSPOTS, tmp_path)
        assert found >= {"scaler", "training loss", "weights", f"forecast {cell.passes[0]}"}


def test_the_future_does_change_what_it_may(tmp_path):
    (cell,) = cells_of(SUNSPOTS, "rnn", "none")
    validation, test = make_cell_task(cell, SUNSPOTS).cuts
    one = outcome(cell, SUNSPOTS, tmp_path)
    other = outcome(cell, another_future(SUNSPOTS, validation), tmp_path)
    assert changed(one.chosen, other.chosen) >= {"history", "validation 0"}
    assert (SUNSPOTS.values[test:] != another_future(SUNSPOTS, test).values[test:]).all()
    assert (SUNSPOTS.values[:test] == another_future(SUNSPOTS, test).values[:test]).all()


def _scale_on_everything(monkeypatch):
    fit = windows.Scaler.fit
    monkeypatch.setattr(windows.Scaler, "fit", lambda rows: fit(rows if rows.base is None else rows.base))


def _choose_on_the_test_part(monkeypatch):
    def test_mae(model, task):
        return training.mean_absolute_error(
            task.truth(task.test), task.to_units(training.predict(model, task.test), task.test)
        )

    monkeypatch.setattr(training, "_validation_mae", test_mae)


def _fill_from_the_future(monkeypatch):
    monkeypatch.setattr(windows, "carry_forward", lambda values, _: pd.DataFrame(values).bfill().to_numpy())


def _train_over_the_cut(monkeypatch):
    assemble = windows.assemble

    def wider(series, scaler, spans, *rest, **sizes):
        first, end = spans["training"]
        return assemble(series, scaler, spans | {"training": (first, end + 1)}, *rest, **sizes)

    monkeypatch.setattr(windows, "assemble", wider)


@pytest.mark.parametrize(
    ("leak", "moved"),
    [
        (_scale_on_everything, "scaler"),
        (_choose_on_the_test_part, "history"),
        (_fill_from_the_future, "forecast 0"),
        (_train_over_the_cut, "training windows"),
    ],
)
def test_a_leak_put_in_on_purpose_is_caught(tmp_path, monkeypatch, leak, moved):
    values = SUNSPOTS.values.copy()
    values[159] = np.nan  # the last row before the test part
    series = replace(SUNSPOTS, values=values)
    (cell,) = cells_of(series, "rnn", "none")
    assert leaks(cell, series, tmp_path) == set()
    leak(monkeypatch)
    assert moved in leaks(cell, series, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DATASETS, *EMBEDDED])
def test_no_data_set_leaks_with_any_model_and_arm_and_every_one_does_as_released(tmp_path, name):
    if name not in EMBEDDED and not (DATA / DATASETS[name].file).exists():
        pytest.skip(f"needs {DATA / DATASETS[name].file}")
    series = stretch(EMBEDDED[name] if name in EMBEDDED else load(name, data_dir=DATA))
    for model in MODELS:
        rigorous = {cell for arm in ARMS for cell in cells_of(series, model, arm)}
        for cell in rigorous:
            assert leaks(cell, series, tmp_path) == set(), cell
        for cell in cells_of(series, model, "mc-dropout", "paper") + cells_of(series, model, "synaptic", "paper"):
            assert leaks(cell, series, tmp_path) >= {"scaler", "weights", f"forecast {cell.passes[0]}"}, cell
