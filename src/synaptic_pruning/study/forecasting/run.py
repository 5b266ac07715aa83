"""Train and evaluate the cells of a study on series, several seeds in one process where that is faster."""

import io
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, cast

import synaptic_pruning as sp
from synaptic_pruning.study.algorithms import ALGORITHMS
from synaptic_pruning.study.engine import (
    Job,
    Outcome,
    Team,
    peak_memory_mb,
    save_network,
    versions,
    write_atomically,
)
from synaptic_pruning.study.forecasting.cells import Answer, BaselineCell, BaselineRecord, Cell, CellRecord

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from torch.optim import Optimizer

    from synaptic_pruning.tasks.forecasting import (
        Attach,
        ForecastingTask,
        RNNForecaster,
        Series,
        Settings,
        Training,
        Windows,
    )


def run_job(job: Job, series: "Series", folder: Path) -> Outcome:
    """Run a cell, a baseline, or side by side the cells of a team; see `run_cell` and `run_baseline`."""
    if isinstance(job, BaselineCell):
        return run_baseline(job, series, folder)
    if not isinstance(job, Team):
        return run_cell(cast(Cell, job), series, folder)
    from synaptic_pruning.tasks.forecasting import train_together

    cells = cast(tuple[Cell, ...], job.cells)
    task = make_cell_task(cells[0], series)
    models = [cast("RNNForecaster", build_network(cell, task)) for cell in cells]
    trainings = train_together(
        models,
        task,
        training_settings(cells[0], task),
        seeds=[cell.stream for cell in cells],
        attach=[pruner_factory(cell) for cell in cells],
    )
    records = [
        evaluate(cell, model, task, training, folder)
        for cell, model, training in zip(cells, models, trainings, strict=True)
    ]
    for record in records:
        record["together"] = len(cells)
    return {"cells": records}


def run_cell(cell: Cell, series: "Series", folder: Path) -> CellRecord:
    """Train one network, score its forecasts, and return the record; weights and forecasts go to `folder`."""
    from synaptic_pruning.tasks.forecasting import train

    task = make_cell_task(cell, series)
    model = build_network(cell, task)
    settings = training_settings(cell, task)
    training = train(model, task, seed=cell.stream, attach=pruner_factory(cell), **vars(settings))
    return evaluate(cell, model, task, training, folder)


def run_baseline(cell: BaselineCell, series: "Series", folder: Path) -> BaselineRecord:
    """Fit one baseline, score its forecasts, and return the record; the forecasts go to `folder`."""
    from synaptic_pruning.tasks.forecasting import baseline_forecasts

    task = make_cell_task(cell, series)
    started = perf_counter()
    found = baseline_forecasts(task, [cell.baseline])[cell.baseline]
    seconds = perf_counter() - started
    forecasts = {"test 0": found["test"], "validation 0": found["validation"]}
    _keep_forecasts(folder / f"{cell.hash}.npz", task, forecasts)
    return {
        "cell": cell.to_dict(),
        "hash": cell.hash,
        "status": "ok",
        "versions": versions(),
        "train_seconds": seconds,
        "scores": _scores(task, found["test"], found["validation"], 0.0),
    }


def make_cell_task(cell: Cell | BaselineCell, series: "Series") -> "ForecastingTask":
    """Return the windows of a cell; the test origins are those of the longest window, whatever the cell's length."""
    from synaptic_pruning.tasks.forecasting import make_leaking_task, make_task

    sizes = {"length": cell.length, "horizon": cell.horizon, "longest": cell.longest}
    if cell.protocol == "paper":
        return make_leaking_task(series, **sizes)
    return make_task(series, **sizes, predict=cell.predict)


def build_network(cell: Cell, task: "ForecastingTask") -> "nn.Module":
    """Return the fresh network of a cell; the global generator goes on from its seed."""
    import torch

    from synaptic_pruning.tasks.forecasting import build_model

    torch.manual_seed(cell.stream)
    return build_model(
        cell.model,
        channels=task.test.inputs.shape[-1],
        length=cell.length,
        horizon=cell.horizon,
        dropout=cell.option.dropout,
        locked=cell.option.locked,
        predict=task.predict,
        unit=task.unit,
        keep=cell.option.keep,
    )


def training_settings(cell: Cell, task: "ForecastingTask") -> "Settings":
    """Return how the network of a cell is trained."""
    from synaptic_pruning.tasks.forecasting import Settings

    per_epoch = -(-len(task.train) // cell.batch_size)
    return Settings(
        epochs=max(1, round(cell.steps / per_epoch)) if cell.steps else cell.epochs,
        learning_rate=cell.learning_rate,
        batch_size=cell.batch_size,
        patience=cell.patience or None,
        weight_decay=cell.option.weight_decay,
        schedule=cell.schedule,
        keep="last" if cell.protocol == "paper" else "best",
    )


def pruner_factory(cell: Cell) -> "Attach | None":
    """Return what puts the pruner of a cell on a network, None where nothing is pruned."""
    rule = cell.option.rule(cell.seed)
    if rule is None:
        return None
    return partial(_prune, rule, ALGORITHMS[cell.option.algorithm].compensate)


def evaluate(cell: Cell, model: "nn.Module", task: "ForecastingTask", training: "Training", folder: Path) -> CellRecord:
    """Score the forecasts of a trained network and return the record; weights and forecasts go to `folder`."""
    from synaptic_pruning.tasks.forecasting import denominators

    record: CellRecord = {
        "cell": cell.to_dict(),
        "hash": cell.hash,
        "status": training.status if training.status == "ok" else f"{training.status}: {training.reason}",
        "versions": versions(),
        "train_seconds": training.train_seconds,
        "validation_seconds": training.validation_seconds,
        "steps": training.steps,
        "most_epochs": training_settings(cell, task).epochs,
        "best_epoch": training.best_epoch,
        "history": training.history,
        "layers": {name: [round(value, 4) for value in values] for name, values in training.layers.items()},
    }
    if training.status != "ok":
        return record
    save_network(model, cell, folder)
    record["alive"], record["prunable"] = count_alive(model)
    record["sparsity"] = 1 - record["alive"] / record["prunable"]
    answers: dict[str, Answer] = {}
    forecasts: dict[str, np.ndarray] = {}
    for passes in cell.passes:
        drawn = passes if cell.option.dropout else 0  # without dropout all passes are equal
        started = perf_counter()
        tested = forecasts[f"test {passes}"] = forecast(model, task, task.test, drawn, cell.stream)
        seconds = perf_counter() - started
        validated = forecasts[f"validation {passes}"] = forecast(model, task, task.validation, drawn, cell.stream)
        answers[str(passes)] = _scores(task, tested, validated, seconds)
    record["answers"] = answers
    if not all(math.isfinite(answer["mae"]) for answer in answers.values()):
        record["status"] = "nan-forecast: a forecast of the test windows is not finite; lower the learning rate."
    _keep_forecasts(folder / f"{cell.hash}.npz", task, forecasts)
    record["divided_by"] = denominators(task)
    record["peak_memory_mb"] = peak_memory_mb()
    return record


def count_alive(model: "nn.Module") -> tuple[int, int]:
    """Return how many prunable weights are not zero, and how many there are."""
    weights = [layer.parameter for layer in sp.Synapses(model).layers]
    return sum(int(weight.count_nonzero()) for weight in weights), sum(weight.numel() for weight in weights)


def _scores(task: "ForecastingTask", tested: "np.ndarray", validated: "np.ndarray", seconds: float) -> Answer:
    from synaptic_pruning.tasks.forecasting import denominators, score, scores

    before = scores(task.truth(task.validation), validated, denominators(task))
    validation = {f"validation_{name}": before[name] for name in ("mae", "rmse")}
    return cast(Answer, {**score(task, tested), **validation, "predict_seconds": seconds})


def forecast(model: "nn.Module", task: "ForecastingTask", windows: "Windows", passes: int, seed: int) -> "np.ndarray":
    """Forecast windows in original units, shape (windows, horizon).

    With `passes` the forecasts of that many stochastic passes are averaged; the average is what gets scored.
    """
    import torch

    from synaptic_pruning.tasks.forecasting import predict

    if not passes:
        return task.to_units(predict(model, windows), windows)
    torch.manual_seed(seed)
    with sp.monte_carlo_dropout(model):
        mean = torch.stack([predict(model, windows) for _ in range(passes)]).mean(0)
    return task.to_units(mean, windows)


def read_forecasts(folder: Path, cell_hash: str) -> dict[str, "np.ndarray"]:
    """Return what a cell forecast: "test 0" is (windows, horizon) in original units, "test" the truth, and so on."""
    import numpy as np

    with np.load(folder / f"{cell_hash}.npz") as stored:
        return dict(stored)


def _keep_forecasts(path: Path, task: "ForecastingTask", forecasts: "Mapping[str, np.ndarray]") -> None:
    import numpy as np

    buffer = io.BytesIO()
    truth = {"test": task.truth(task.test), "validation": task.truth(task.validation)}
    np.savez_compressed(buffer, **truth, **forecasts)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def _prune(
    rule: sp.Rule | float, compensate: float | None, model: "nn.Module", optimizer: "Optimizer", total_steps: int
) -> sp.SynapticPruner:
    return sp.SynapticPruner(model, optimizer, rule, total_steps=total_steps, compensate=compensate)
