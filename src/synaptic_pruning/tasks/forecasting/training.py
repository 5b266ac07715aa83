"""Training a forecaster: one plain loop, the same data order for every arm of a seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from synaptic_pruning.core.summary import Summary
from synaptic_pruning.tasks.forecasting.batches import Batches, predict
from synaptic_pruning.tasks.forecasting.metrics import mean_absolute_error
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask


class Pruner(Protocol):
    """What training asks of a pruner; it hooks itself onto the optimizer."""

    @property
    def finished(self) -> bool:
        """True once the masks stand still."""

    @property
    def ramp_finished(self) -> bool:
        """True once the final sparsity is reached."""

    def sparsity(self) -> float:
        """Share of the prunable weights that are gone, in [0, 1]."""

    def summary(self) -> Summary:
        """What is left of every layer."""


Attach = Callable[[nn.Module, Optimizer, int], Pruner]
Status = Literal["ok", "nan-loss", "pruner-unfinished"]
LearningRate = Literal["constant", "cosine"]
_WARMUP = 0.05
"""Share of training in which the cosine schedule rises from zero."""


@dataclass
class Training:
    """What happened in training; epochs count from 1, ``best_epoch`` 0 means the initial weights.

    ``history`` has one dict an epoch: epoch, train_loss (MSE in target units), validation_mae (original
    units), sparsity, seconds (training steps only). ``layers`` has the sparsity of every pruned layer after every
    epoch. ``validation_seconds`` is what the validation errors took, apart from ``train_seconds``. ``sparsity`` and
    ``best_state`` belong to the weights left in the model. ``status`` other than "ok" comes with a ``reason``.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    layers: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    sparsity: float = 0.0
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    steps: int = 0
    status: Status = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Settings:
    """How networks are trained: the arguments of `train` that several networks may share, with its defaults."""

    epochs: int
    learning_rate: float = 1e-3
    batch_size: int = 64
    patience: int | None = None
    weight_decay: float = 0.0
    schedule: LearningRate = "constant"
    keep: Literal["best", "last"] = "best"

    def check(self, model: nn.Module, task: ForecastingTask) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: as for `train`.
        """
        if self.epochs < 1 or self.batch_size < 1 or (self.patience is not None and self.patience < 1):
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, patience={self.patience} must be at least 1."
            )
        if getattr(model, "predict", task.predict) != task.predict:
            raise ValueError(
                f"the model was built for predict={model.predict!r}, the task for {task.predict!r}; "
                "pass predict=task.predict to build_model."
            )


class _Checkpoint(NamedTuple):
    epoch: int
    sparsity: float
    state: dict[str, Tensor]


def train(
    model: nn.Module,
    task: ForecastingTask,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    patience: int | None = None,
    attach: Attach | None = None,
    weight_decay: float = 0.0,
    schedule: LearningRate = "constant",
    keep: Literal["best", "last"] = "best",
) -> Training:
    """Train with Adam on the mean squared error; leave the best weights (validation MAE) in, in eval mode.

    ``attach(model, optimizer, total_steps)`` puts a pruner on; until its ramp is finished no epoch may become
    the best and ``patience`` (epochs without improvement) does not count, so that what is evaluated is fully
    pruned. ``seed`` fixes data order (its own generator, the same for every arm) and dropout; the caller's
    random state is left as it was. ``schedule="cosine"`` lets the learning rate rise over the first 5 % of
    training and fall to zero along half a cosine; ``keep="last"`` leaves the last weights in instead of the best.
    A loss or weight that is no longer finite ends training and is told in ``status``, not raised.

    Raises:
        ValueError: an argument out of range, or a model built for another ``predict`` than the task's.
    """
    settings = Settings(epochs, learning_rate, batch_size, patience, weight_decay, schedule, keep)
    settings.check(model, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        run = Run(model, task, settings, seed=seed, attach=attach)
        while not run.ended:
            started = time.perf_counter()
            model.train()
            loss = _epoch(run)
            run.end_epoch(loss, time.perf_counter() - started)
    return run.result()


class Run:
    """One network in training: all but the batches' forward and backward passes, which several may share.

    The other arguments are those of `train`.

    Attributes:
        batches: its own shuffled batches.
        ended: True once no further epoch is to come.
    """

    def __init__(
        self, model: nn.Module, task: ForecastingTask, settings: Settings, *, seed: int, attach: Attach | None
    ) -> None:
        self.model, self.batches = model, Batches(task.train, settings.batch_size, seed)
        self.ended = False
        self._task, self._settings = task, settings
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = Adam(trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        steps = settings.epochs * len(self.batches)
        self._rate = LambdaLR(self._optimizer, lambda step: rate_at(settings.schedule, (step + 0.5) / steps))
        self._pruner = attach(model, self._optimizer, steps) if attach else None
        self._training = Training()
        self._best_mae = math.inf
        self._checkpoint = _Checkpoint(0, self._sparsity(), _copy(model))

    def zero_grad(self) -> None:
        """Forget the gradients of the last batch."""
        self._optimizer.zero_grad()

    def step(self) -> bool:
        """Take an optimizer step with the gradients that are there; False where weights were no longer finite."""
        try:
            self._optimizer.step()
        except ValueError:  # a pruner refuses weights that are not finite
            if all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
                raise
            return False
        self._rate.step()
        self._training.steps += 1
        return True

    def end_epoch(self, loss: float, seconds: float) -> None:
        """Take down an epoch with its mean loss, not finite where it had to stop, and keep the weights if need be."""
        run, pruner, epoch = self._training, self._pruner, len(self._training.history) + 1
        self.model.eval()
        run.train_seconds += seconds
        sparsity = self._sparsity()
        started = time.perf_counter()
        mae = _validation_mae(self.model, self._task) if math.isfinite(loss) else math.nan
        run.validation_seconds += time.perf_counter() - started
        run.history.append(
            {"epoch": epoch, "train_loss": loss, "validation_mae": mae, "sparsity": sparsity, "seconds": seconds}
        )
        for row in pruner.summary().rows if pruner else ():
            run.layers.setdefault(row.name, []).append(row.sparsity)
        if not math.isfinite(mae):
            run.status = "nan-loss"
            run.reason = f"the loss was no longer finite in epoch {epoch}; lower the learning rate."
            self.ended = True
        elif pruner is not None and not pruner.ramp_finished:
            self._checkpoint = _Checkpoint(epoch, sparsity, _copy(self.model))
        elif mae < self._best_mae or self._settings.keep == "last":
            self._best_mae, self._checkpoint = mae, _Checkpoint(epoch, sparsity, _copy(self.model))
        elif self._settings.patience is not None and epoch - self._checkpoint.epoch >= self._settings.patience:
            self.ended = True
        self.ended |= epoch == self._settings.epochs

    def result(self) -> Training:
        """Leave the weights that were kept in the model, in eval mode, and return what happened."""
        run, pruner = self._training, self._pruner
        if run.status == "ok" and pruner is not None and not pruner.finished:
            run.status = "pruner-unfinished"
            run.reason = (
                f"the pruner had not reached its final sparsity after {run.steps} steps; "
                "train longer or end its schedule earlier."
            )
        run.best_epoch, run.sparsity, run.best_state = self._checkpoint
        self.model.load_state_dict(run.best_state)
        self.model.eval()
        return run

    def _sparsity(self) -> float:
        return self._pruner.sparsity() if self._pruner else 0.0


def rate_at(schedule: LearningRate, progress: float) -> float:
    """Return the factor of the learning rate at a progress in [0, 1].

    >>> [round(rate_at("cosine", progress), 3) for progress in (0, 0.025, 0.05, 0.525, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if schedule == "constant":
        return 1.0
    if progress < _WARMUP:
        return progress / _WARMUP
    return (1 + math.cos(math.pi * (progress - _WARMUP) / (1 - _WARMUP))) / 2


def _epoch(run: Run) -> float:
    """One pass over the training windows; the mean loss, not finite when training had to stop."""
    total = 0.0
    for index in run.batches.shuffled():
        loss = run.batches.loss(run.model, index)
        value = loss.item()
        if not math.isfinite(value):  # before the step, so that a pruner never meets the resulting weights
            return value
        total += value * len(index)
        run.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not run.step():
            return math.nan
    return total / len(run.batches.usable)


def _validation_mae(model: nn.Module, task: ForecastingTask) -> float:
    forecasts = task.to_units(predict(model, task.validation), task.validation)
    return mean_absolute_error(task.truth(task.validation), forecasts)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
