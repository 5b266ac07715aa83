"""Train a classifier: one plain loop over one tensor, the same data order for every arm of a seed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Adam

from synaptic_pruning.tasks.classification.datasets import ClassificationTask, Labelled
from synaptic_pruning.tasks.training import Attach, Status, TrainingLog

Penalty = Callable[[nn.Module, float], Tensor]


@dataclass
class Training:
    """What happened in one training; epochs count from 1.

    Attributes:
        history: One dict an epoch: epoch, train_loss, validation_accuracy in [0, 1], sparsity, seconds (training only).
        best_epoch: The epoch whose weights are left in the model; 0 is the start.
        sparsity: Share of the prunable ones among them that are pruned, in [0, 1].
        seconds: Spent in training steps.
        status: Other than ``"ok"`` it comes with a ``reason``.
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
        seed: Fixes data order and dropout; the caller's random state is left as it was.
        learning_rate: Adam's, at the start.
        batch_size: Images a step; the last, smaller batch of an epoch is left out.
        weight_decay: Adam's.
        penalty: ``penalty(model, progress)`` is added to the loss, at a training progress in [0, 1).
        attach: ``attach(model, optimizer, total_steps)`` puts a pruner on. Until its ramp is finished no epoch may be
            the best, so that what is evaluated has its final sparsity.

    Raises:
        ValueError: An argument is out of range.
    """
    batches = len(task.train) // batch_size if batch_size >= 1 else 0
    if epochs < 1 or batches < 1:
        raise ValueError(f"epochs={epochs} must be at least 1 and batch_size={batch_size} from 1 to {len(task.train)}")
    device = task.train.images.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        shuffle = torch.Generator().manual_seed(seed)
        optimizer = Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
        pruner = attach(model, optimizer, epochs * batches) if attach else None
        log = TrainingLog(model, pruner, epochs=epochs, measure="validation_accuracy", higher_is_better=True)
        while not log.ended:
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
            log.end_epoch(mean, accuracy(model, task.validation), seconds)
    log.close()
    return Training(log.history, log.kept.epoch, log.kept.sparsity, log.seconds, log.status, log.reason)


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
