"""A cell is one training: the smallest piece of a study that runs, fails and is remembered on its own."""

import hashlib
import io
import json
import math
import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import synaptic_pruning as sp
from synaptic_pruning.study.engine.atomic_write import write_atomically
from synaptic_pruning.study.forecasting.arms import Regime

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from synaptic_pruning.study.engine.records import Job
    from synaptic_pruning.tasks.forecasting.data.series import Series
    from synaptic_pruning.tasks.forecasting.training import Attach, LearningRate, Settings, Training
    from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Target, Windows

Protocol = Literal["rigorous", "paper"]


@dataclass(frozen=True)
class Cell:
    """One training of one network on one data set, and how it is asked for forecasts.

    Its `hash` covers everything the result depends on: these settings, the rule, the digest of the data and the
    versions of this library and of PyTorch.

    Attributes:
        passes: for each way of asking the trained network the number of stochastic passes averaged, 0 for none.
        together: whether its seeds are trained side by side; see `teams`.
    """

    dataset: str
    data_hash: str
    model: str
    regime: Regime
    passes: tuple[int, ...]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    steps: int
    predict: "Target"
    learning_rate: float
    schedule: "LearningRate"
    batch_size: int
    protocol: Protocol
    together: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the content that the hash covers, as plain values."""
        rule = {"rule": repr(self.regime.rule(self.seed))}
        settings = {name: value for name, value in asdict(self).items() if name != "together" or value}
        return settings | rule | {"versions": {name: versions()[name] for name in ("synaptic_pruning", "torch")}}

    @property
    def stream(self) -> int:
        """The seed of its random numbers."""
        return self.seed + 100_000 * self.regime.repeat

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        return hash_of(self.to_dict())


def hash_of(content: Mapping[str, Any]) -> str:
    """Return the first sixteen hexadecimal digits of the sum of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def task_of(cell: Cell, series: "Series") -> "ForecastingTask":
    """Return the windows of a cell; the test origins are those of the longest window, whatever the cell's length."""
    from synaptic_pruning.tasks.forecasting.paper_protocol import make_leaking_task
    from synaptic_pruning.tasks.forecasting.windows import make_task

    sizes = {"length": cell.length, "horizon": cell.horizon, "longest": cell.longest}
    if cell.protocol == "paper":
        return make_leaking_task(series, **sizes)
    return make_task(series, **sizes, predict=cell.predict)


def build(cell: Cell, task: "ForecastingTask") -> "nn.Module":
    """Return the fresh network of a cell; the global generator goes on from its seed."""
    import torch

    from synaptic_pruning.tasks.forecasting.models import build_model

    torch.manual_seed(cell.stream)
    regime = cell.regime
    less = 0.0 if regime.prunes else regime.sparsity
    return build_model(
        cell.model,
        channels=task.test.inputs.shape[-1],
        length=cell.length,
        horizon=cell.horizon,
        dropout=regime.dropout,
        predict=task.predict,
        unit=task.unit,
        keep=1 - less,
    )


def run_cell(cell: Cell, series: "Series", folder: Path) -> dict[str, Any]:
    """Train one network, score its forecasts, and return the record; weights and forecasts go to `folder`."""
    from synaptic_pruning.tasks.forecasting.training import train

    task = task_of(cell, series)
    model = build(cell, task)
    training = train(model, task, seed=cell.stream, attach=attached(cell), **vars(settings(cell, task)))
    return record_of(cell, model, task, training, folder)


def settings(cell: Cell, task: "ForecastingTask") -> "Settings":
    """Return how the network of a cell is trained."""
    from synaptic_pruning.tasks.forecasting.training import Settings

    per_epoch = -(-len(task.train) // cell.batch_size)
    return Settings(
        epochs=max(1, round(cell.steps / per_epoch)) if cell.steps else cell.epochs,
        learning_rate=cell.learning_rate,
        batch_size=cell.batch_size,
        weight_decay=cell.regime.weight_decay,
        schedule=cell.schedule,
        keep="last" if cell.protocol == "paper" else "best",
    )


def attached(cell: Cell) -> "Attach | None":
    """Return what puts the pruner of a cell on, None where nothing is pruned."""
    rule = cell.regime.rule(cell.seed)
    return None if rule is None else partial(_prune, rule)


def record_of(
    cell: Cell, model: "nn.Module", task: "ForecastingTask", training: "Training", folder: Path
) -> dict[str, Any]:
    """Score the forecasts of a trained network and return the record; weights and forecasts go to `folder`."""
    from synaptic_pruning.tasks.forecasting import (
        denominators,
        mean_absolute_error,
        persistence,
        score,
        seasonal_naive,
    )

    record: dict[str, Any] = {
        "cell": cell.to_dict(),
        "hash": cell.hash,
        "status": training.status if training.status == "ok" else f"{training.status}: {training.reason}",
        "versions": versions(),
        "train_seconds": training.train_seconds,
        "validation_seconds": training.validation_seconds,
        "steps": training.steps,
        "best_epoch": training.best_epoch,
        "history": training.history,
        "layers": {name: [round(value, 4) for value in values] for name, values in training.layers.items()},
    }
    if training.status != "ok":
        return record
    save_network(model, cell, folder)
    record |= _weights(model)
    record["answers"], forecasts = {}, {}
    for passes in cell.passes:
        started = perf_counter()
        forecasts[f"test {passes}"] = forecast(model, task, task.test, passes, cell.stream)
        seconds = perf_counter() - started
        forecasts[f"validation {passes}"] = forecast(model, task, task.validation, passes, cell.stream)
        record["answers"][str(passes)] = {
            **score(task, forecasts[f"test {passes}"]),
            "validation_mae": mean_absolute_error(task.truth(task.validation), forecasts[f"validation {passes}"]),
            "predict_seconds": seconds,
        }
    if not all(math.isfinite(answer["mae"]) for answer in record["answers"].values()):
        record["status"] = "nan-forecast: a forecast of the test windows is not finite; lower the learning rate."
    _keep_forecasts(folder / f"{cell.hash}.npz", task, forecasts)
    record["divided_by"] = denominators(task)
    record["baselines"] = {
        "persistence": score(task, persistence(task, task.test)),
        "seasonal naive": score(task, seasonal_naive(task, task.test)),
    }
    record["peak_memory_mb"] = peak_memory_mb()
    return record


def forecast(model: "nn.Module", task: "ForecastingTask", windows: "Windows", passes: int, seed: int) -> "np.ndarray":
    """Forecast windows in original units, shape (windows, horizon).

    With `passes` the forecasts of that many stochastic passes are averaged; the average is what gets scored.
    """
    import torch

    from synaptic_pruning.tasks.forecasting.batches import predict

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


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result is tied to."""
    return {
        "python": platform.python_version(),
        "synaptic_pruning": sp.__version__,
        "torch": version("torch"),
    }


def _prune(rule: sp.Rule, model: "nn.Module", optimizer: Any, total_steps: int) -> "sp.SynapticPruner":
    return sp.SynapticPruner(model, optimizer, rule, total_steps=total_steps)


def _weights(model: "nn.Module") -> dict[str, Any]:
    from synaptic_pruning.core.synapses import Synapses

    parameters = [layer.parameter for layer in Synapses(model).layers]
    prunable = sum(p.numel() for p in parameters)
    alive = sum(int(p.count_nonzero()) for p in parameters)
    return {"prunable": prunable, "alive": alive, "sparsity": 1 - alive / prunable}


def save_network(model: "nn.Module", cell: "Job", folder: Path) -> None:
    """Write `<hash>.safetensors`, whole or not at all."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / f"{cell.hash}.safetensors", save(state, {"cell": json.dumps(cell.to_dict())}))


def _keep_forecasts(path: Path, task: "ForecastingTask", forecasts: "dict[str, np.ndarray]") -> None:
    import numpy as np

    buffer = io.BytesIO()
    truth = {"test": task.truth(task.test), "validation": task.truth(task.validation)}
    np.savez_compressed(buffer, **truth, **forecasts)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def peak_memory_mb() -> float:
    """Return the largest memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
