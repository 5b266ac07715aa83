"""Training a classifier: one plain loop over one tensor, the same data order for every arm of a seed."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from synaptic_pruning.pruner.pruner import SynapticPruner
from synaptic_pruning.tasks.classification.datasets import ClassificationTask, Labelled

Attach = Callable[[nn.Module, Optimizer, int], SynapticPruner]
Penalty = Callable[[nn.Module, float], Tensor]
Status = Literal["ok", "nan-loss", "pruner-unfinished"]


@dataclass
class Training:
    """What happened in training; epochs count from 1.

    Attributes:
        history: One dict an epoch: epoch, train_loss, validation_accuracy in [0, 1], sparsity, seconds (training only).
        best_epoch: The epoch whose weights are left in the model; 0 is the start.
        sparsity: Of those weights.
        seconds: Spent in training steps.
        status: Other than "ok" it comes with a ``reason``.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    sparsity: float = 0.0
    seconds: float = 0.0
    status: Status = "ok"
    reason: str = ""


def train(
    model: nn.Module,
    task: ClassificationTask,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    weight_decay: float = 0.0,
    penalty: Penalty | None = None,
    attach: Attach | None = None,
) -> Training:
    """Train with Adam on cross-entropy, the rate falling to zero on a cosine; leave the best weights in, in eval mode.

    Args:
        model: The network, changed in place, on the device of the task.
        task: Its data; the test part is not touched.
        epochs: Passes over the training part, at least 1.
        seed: Of data order and dropout; the caller's random state is left as it was.
        learning_rate: At the start.
        batch_size: Images a step; the last, smaller batch of an epoch is left out.
        weight_decay: Adam's.
        penalty: ``penalty(model, progress)`` is added to the loss, at a training progress in [0, 1).
        attach: ``attach(model, optimizer, total_steps)`` puts a pruner on. Until its ramp is finished no epoch may be
            the best, so that what is evaluated is fully pruned.

    Raises:
        ValueError: An argument out of range.
    """
    batches = len(task.train) // batch_size if batch_size >= 1 else 0
    if epochs < 1 or batches < 1:
        raise ValueError(f"epochs={epochs} must be at least 1 and batch_size={batch_size} from 1 to {len(task.train)}")
    run = Training()
    device = task.train.images.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        shuffle = torch.Generator().manual_seed(seed)
        optimizer = Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
        pruner = attach(model, optimizer, epochs * batches) if attach else None
        best, state = -1.0, _copy(model)
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            model.train()
            total = torch.zeros((), device=device)
            order = torch.randperm(len(task.train), generator=shuffle)[: batches * batch_size].to(device)
            for index in torch.split(order, batch_size):
                loss = nn.functional.cross_entropy(model(task.train.images[index]), task.train.labels[index])
                total += loss.detach()
                if penalty:
                    loss = loss + penalty(model, decay.last_epoch / (epochs * batches))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                decay.step()
            mean = float(total) / batches  # waits for the device
            seconds = time.perf_counter() - started
            run.seconds += seconds
            sparsity = pruner.sparsity() if pruner else 0.0
            reached = accuracy(model, task.validation)
            run.history.append(
                {
                    "epoch": epoch,
                    "train_loss": mean,
                    "validation_accuracy": reached,
                    "sparsity": sparsity,
                    "seconds": seconds,
                }
            )
            if not math.isfinite(mean):
                run.status = "nan-loss"
                run.reason = f"the loss was no longer finite in epoch {epoch}; lower the learning rate"
                break
            if (pruner is None or pruner.ramp_finished) and reached > best:
                best, run.best_epoch, run.sparsity, state = reached, epoch, sparsity, _copy(model)
        if run.status == "ok" and pruner is not None and not pruner.ramp_finished:
            run.status, run.sparsity = "pruner-unfinished", pruner.sparsity()
            run.reason = "the pruner had not finished when training ended; end its schedule earlier"
    model.load_state_dict(state)
    model.eval()
    return run


@torch.no_grad()
def accuracy(model: nn.Module, part: Labelled, batch_size: int = 2000) -> float:
    """Return the fraction of images whose largest output is their label, in [0, 1]; the model is left in eval mode."""
    model.eval()
    right = 0
    for images, labels in zip(torch.split(part.images, batch_size), torch.split(part.labels, batch_size), strict=True):
        right += int((model(images).argmax(1) == labels).sum())
    return right / len(part)


def epochs_to(history: Sequence[dict[str, float]], wanted: float) -> int | None:
    """Return the first epoch whose validation accuracy is at least ``wanted``: None if there is none.

    Example:
        >>> epochs_to([{"epoch": 1, "validation_accuracy": 0.8}, {"epoch": 2, "validation_accuracy": 0.9}], 0.85)
        2
    """
    return next((int(row["epoch"]) for row in history if row["validation_accuracy"] >= wanted), None)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
