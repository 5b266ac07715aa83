"""Train a forecaster: one plain loop, the same data order for every arm of a seed."""

import math
import time
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from synaptic_pruning.tasks.forecasting.batches import Batches, predict
from synaptic_pruning.tasks.forecasting.metrics import mean_absolute_error
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask
from synaptic_pruning.tasks.training import Attach, Status, TrainingLog

LearningRate = Literal["constant", "cosine"]
"""How the learning rate goes: it stays, or rises from zero and falls to zero again."""
_WARMUP = 0.05
"""Share of training in which the cosine schedule rises from zero."""


@dataclass
class Training:
    """What happened in one training; epochs count from 1.

    Attributes:
        history: One dict an epoch: epoch, train_loss (MSE in target units), validation_mae (original units), sparsity,
            seconds (training steps only); with a pruner also alive, grown and pruned (counts of weights, the last two
            since the start) and age (mean of the alive weights, in epochs).
        layers: Sparsity of every pruned layer after every epoch.
        best_epoch: The epoch whose weights are left in the model; 0 is the start.
        best_state: Those weights.
        sparsity: Share of the prunable ones among them that are pruned, in [0, 1].
        train_seconds: Spent in training steps.
        validation_seconds: Spent on the validation errors.
        steps: Optimizer steps taken.
        status: Other than ``"ok"`` it comes with a ``reason``.
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
            ValueError: As for `train`.
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
    """Train with AdamW on the mean squared error; leave the best weights in, in eval mode.

    A loss or weight that is no longer finite ends training and is told in ``status``, not raised.

    Args:
        model: The network, changed in place.
        task: Its data; the test part is not touched.
        epochs: Passes over the training windows, at least 1.
        seed: Fixes data order, by a generator of its own, and dropout; the caller's random state is left as it was.
        learning_rate: AdamW's, at its highest.
        batch_size: Windows a step, at least 1.
        patience: Epochs without a smaller validation MAE after which training ends, at least 1; None goes on.
        attach: ``attach(model, optimizer, total_steps)`` puts a pruner on. Until its ramp is finished no epoch may be
            the best and ``patience`` does not count, so that what is evaluated has its final sparsity.
        weight_decay: AdamW's; without any it is Adam.
        schedule: ``"cosine"`` lets the learning rate rise over the first 5 % of training and fall to zero along half a
            cosine.
        keep: ``"best"`` leaves the weights of the smallest validation MAE in the model, ``"last"`` the last ones.

    Raises:
        ValueError: An argument is out of range, or the model was built for another ``predict`` than the task's.
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

    The arguments are those of `train`, most of them in `Settings`.

    Attributes:
        model: The network.
        batches: Its own shuffled batches.
    """

    def __init__(
        self, model: nn.Module, task: ForecastingTask, settings: Settings, *, seed: int, attach: Attach | None
    ) -> None:
        self.model, self.batches = model, Batches(task.train, settings.batch_size, seed)
        self._task = task
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = AdamW(trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        steps = settings.epochs * len(self.batches)
        self._rate = LambdaLR(self._optimizer, lambda step: rate_at(settings.schedule, (step + 0.5) / steps))
        self._pruner = attach(model, self._optimizer, steps) if attach else None
        self._steps, self._validation_seconds = 0, 0.0
        self._layers: dict[str, list[float]] = {}
        self._log = TrainingLog(
            model,
            self._pruner,
            epochs=settings.epochs,
            measure="validation_mae",
            keep=settings.keep,
            patience=settings.patience,
        )

    @property
    def ended(self) -> bool:
        """True once no further epoch is to come."""
        return self._log.ended

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
        self._steps += 1
        return True

    def end_epoch(self, loss: float, seconds: float) -> None:
        """Measure the validation error and enter the epoch in the books.

        Args:
            loss: Mean loss of the epoch, not finite where it had to stop.
            seconds: Time of its training steps.
        """
        self.model.eval()
        started = time.perf_counter()
        mae = _validation_mae(self.model, self._task) if math.isfinite(loss) else math.nan
        self._validation_seconds += time.perf_counter() - started
        self._log.end_epoch(loss, mae, seconds)
        if self._pruner is None:
            return
        summary, epochs = self._pruner.summary(), len(self._log.history)
        for row in summary.rows:
            self._layers.setdefault(row.name, []).append(row.sparsity)
        total = summary.total
        counts = {"alive": total.alive, "grown": total.grown, "pruned": total.pruned}
        self._log.history[-1] |= {**counts, "age": total.mean_age / max(1, self._steps) * epochs}

    def result(self) -> Training:
        """Leave the weights that were kept in the model, in eval mode, and return what happened."""
        log = self._log
        log.close()
        return Training(
            history=log.history,
            layers=self._layers,
            best_epoch=log.kept.epoch,
            best_state=log.kept.state,
            sparsity=log.kept.sparsity,
            train_seconds=log.seconds,
            validation_seconds=self._validation_seconds,
            steps=self._steps,
            status=log.status,
            reason=log.reason,
        )


def rate_at(schedule: LearningRate, progress: float) -> float:
    """Return the factor of the learning rate at a progress in [0, 1].

    Example:
        >>> [round(rate_at("cosine", progress), 3) for progress in (0, 0.025, 0.05, 0.525, 1)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if schedule == "constant":
        return 1.0
    if progress < _WARMUP:
        return progress / _WARMUP
    return (1 + math.cos(math.pi * (progress - _WARMUP) / (1 - _WARMUP))) / 2


def _epoch(run: Run) -> float:
    """One pass over the training windows; the mean loss, not finite where training had to stop."""
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
