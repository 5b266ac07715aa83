"""A cell is one training: the smallest piece of a study that runs, fails and is remembered on its own."""

import hashlib
import json
import math
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import synaptic_pruning as sp
from synaptic_pruning.study.arms import ARMS, Arm
from synaptic_pruning.study.storage import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from synaptic_pruning.tasks.forecasting.series import Series
    from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Target

TAIL = 100
"""How many of the last test forecasts a record keeps for the picture."""


@dataclass(frozen=True)
class Plan:
    """What a comparison varies and what it holds fixed.

    Attributes:
        models: names of forecasters.
        arms: names of `ARMS`.
        lengths: window lengths, in observations.
        horizon: steps ahead that are forecast together.
        seeds: one network each; arms of one seed share initial weights and data order.
        epochs: passes over the training windows, the same for every arm.
        predict: "delta", the change from the last observed value, or "level".
    """

    models: tuple[str, ...]
    arms: tuple[str, ...]
    lengths: tuple[int, ...]
    horizon: int
    seeds: tuple[int, ...]
    epochs: int
    predict: "Target" = "delta"
    learning_rate: float = 1e-3
    batch_size: int = 64


@dataclass(frozen=True)
class Cell:
    """One training of one network on one data set, and the arms that are read off it.

    Its `hash` covers everything the result depends on: these settings, the arms' definitions, the digest of the data
    and the versions of this library and of PyTorch.
    """

    dataset: str
    data_hash: str
    model: str
    arms: tuple[Arm, ...]
    length: int
    longest: int
    horizon: int
    seed: int
    epochs: int
    predict: "Target"
    learning_rate: float
    batch_size: int

    def to_dict(self) -> dict[str, Any]:
        """Return the content that the hash covers, as plain values."""
        content = asdict(self)
        for arm in content["arms"]:
            del arm["meaning"]  # prose
        return content | {"versions": {name: versions()[name] for name in ("synaptic_pruning", "torch")}}

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        content = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def expand(plan: Plan, series: "Sequence[Series]") -> list[Cell]:
    """Return the cells of a plan: data set × model × training regime × length × seed."""
    regimes: dict[Any, list[Arm]] = {}
    for name in plan.arms:
        regimes.setdefault(ARMS[name].regime, []).append(ARMS[name])
    return [
        Cell(
            dataset=one.name,
            data_hash=one.digest,
            model=model,
            arms=tuple(arms),
            length=length,
            longest=max(plan.lengths),
            horizon=plan.horizon,
            seed=seed,
            epochs=plan.epochs,
            predict=plan.predict,
            learning_rate=plan.learning_rate,
            batch_size=plan.batch_size,
        )
        for one in series
        for model in plan.models
        for length in plan.lengths
        for seed in plan.seeds
        for arms in regimes.values()
    ]


def task_of(cell: Cell, series: "Series") -> "ForecastingTask":
    """Return the windows of a cell; the test origins are those of the longest window, whatever the cell's length."""
    from synaptic_pruning.tasks.forecasting.windows import make_task

    return make_task(series, length=cell.length, horizon=cell.horizon, longest=cell.longest, predict=cell.predict)


def build(cell: Cell, task: "ForecastingTask") -> "nn.Module":
    """Return the fresh network of a cell, drawn from the global generator."""
    from synaptic_pruning.tasks.forecasting.models import build_model

    return build_model(
        cell.model,
        channels=task.test.inputs.shape[-1],
        length=cell.length,
        horizon=cell.horizon,
        dropout=cell.arms[0].regime.dropout,
        predict=task.predict,
        unit=task.unit,
    )


def run_cell(cell: Cell, series: "Series", folder: Path) -> dict[str, Any]:
    """Train one network, score its arms on the test windows, and return the record; the weights go to `folder`."""
    import torch

    from synaptic_pruning.tasks.forecasting.baselines import persistence, seasonal_naive
    from synaptic_pruning.tasks.forecasting.metrics import score
    from synaptic_pruning.tasks.forecasting.training import train

    task = task_of(cell, series)
    regime = cell.arms[0].regime
    torch.manual_seed(cell.seed)
    model = build(cell, task)
    training = train(
        model,
        task,
        epochs=cell.epochs,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        batch_size=cell.batch_size,
        attach=_prune if regime.prune else None,
    )
    record: dict[str, Any] = {
        "cell": cell.to_dict(),
        "hash": cell.hash,
        "status": training.status if training.status == "ok" else f"{training.status}: {training.reason}",
        "versions": versions(),
        "train_seconds": training.train_seconds,
        "best_epoch": training.best_epoch,
        "history": training.history,
    }
    if training.status != "ok":
        return record
    _save(model, cell, folder)
    record |= _weights(model)
    record["arms"], forecasts = {}, {}
    for arm in cell.arms:
        started = perf_counter()
        forecasts[arm.name] = forecast(model, task, arm, cell.seed)
        seconds = perf_counter() - started
        record["arms"][arm.name] = {**score(task, forecasts[arm.name]), "predict_seconds": seconds}
    if not all(math.isfinite(scores["mae"]) for scores in record["arms"].values()):
        record["status"] = "nan-forecast: a forecast of the test windows is not finite; lower the learning rate."
    record["baselines"] = {
        "persistence": score(task, persistence(task, task.test)),
        "seasonal naive": score(task, seasonal_naive(task, task.test)),
    }
    record["tail"] = {
        "truth": task.truth(task.test)[-TAIL:, 0].tolist(),
        "forecasts": {name: values[-TAIL:, 0].tolist() for name, values in forecasts.items()},
    }
    record["peak_memory_mb"] = _peak_memory_mb()
    return record


def forecast(model: "nn.Module", task: "ForecastingTask", arm: Arm, seed: int) -> "np.ndarray":
    """Forecast the test windows in original units, shape (windows, horizon).

    With `arm.passes` the forecasts of that many stochastic passes are averaged; the average is what gets scored.
    """
    import torch

    from synaptic_pruning.tasks.forecasting.training import predict

    if not arm.passes:
        return task.to_units(predict(model, task.test), task.test)
    torch.manual_seed(seed)
    with sp.monte_carlo_dropout(model):
        mean = torch.stack([predict(model, task.test) for _ in range(arm.passes)]).mean(0)
    return task.to_units(mean, task.test)


def versions() -> dict[str, str]:
    """Return the versions that a result is tied to."""
    return {
        "python": platform.python_version(),
        "synaptic_pruning": sp.__version__,
        "torch": version("torch"),
    }


def _prune(model: "nn.Module", optimizer: Any, total_steps: int) -> "sp.SynapticPruner":
    return sp.SynapticPruner(model, optimizer, total_steps=total_steps)


def _weights(model: "nn.Module") -> dict[str, Any]:
    from synaptic_pruning.synapses import Synapses

    parameters = [layer.parameter for layer in Synapses(model).layers]
    prunable = sum(p.numel() for p in parameters)
    alive = sum(int(p.count_nonzero()) for p in parameters)
    return {"prunable": prunable, "alive": alive, "sparsity": 1 - alive / prunable}


def _save(model: "nn.Module", cell: Cell, folder: Path) -> None:
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / f"{cell.hash}.safetensors", save(state, {"cell": json.dumps(cell.to_dict())}))


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
