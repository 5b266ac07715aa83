"""One training of one classifier: what it is told, what it leaves."""

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import synaptic_pruning as sp
from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.forecasting.cells import hash_of, peak_memory_mb, save_network, versions

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from synaptic_pruning.tasks.classification import ClassificationTask


@dataclass(frozen=True)
class ImageSet:
    """Where a cell's process finds its images; they are read there, not sent."""

    name: str
    data_dir: Path | None
    digest: str


@dataclass(frozen=True)
class ImageCell:
    """One training. Its `hash` covers settings, rule, data, and the versions of this library and of PyTorch.

    Attributes:
        arm: a name of `ARMS`.
        sparsity: what a matched arm is brought to; 0 for the others.
    """

    dataset: str
    data_hash: str
    model: str
    arm: str
    sparsity: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float

    def rule(self) -> sp.Rule | None:
        """Return the arm's fresh rule."""
        return ARMS[self.arm].rule_for(self.sparsity, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the content that the hash covers, as plain values."""
        rule = re.sub(r" at 0x[0-9a-f]+", "", repr(self.rule()))  # a function's address is another in every process
        own = {"rule": rule, "dropout": ARMS[self.arm].dropout}
        return asdict(self) | own | {"versions": {name: versions()[name] for name in ("synaptic_pruning", "torch")}}

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        return hash_of(self.to_dict())


def build(cell: ImageCell, task: "ClassificationTask") -> "nn.Module":
    """Return the fresh network of a cell; arms of one seed start alike."""
    from synaptic_pruning.tasks.classification import build_model

    return build_model(cell.model, task.shape, task.classes, seed=cell.seed, dropout=ARMS[cell.arm].dropout)


def run_image_cell(cell: ImageCell, images: ImageSet, folder: Path) -> dict[str, Any]:
    """Train one network, test it once, and return the record; the weights go to `folder`."""
    from synaptic_pruning.core.synapses import Synapses
    from synaptic_pruning.tasks.classification import accuracy, make_task, streak_counts, train

    task = make_task(images.name, images.data_dir)
    model, rule = build(cell, task), cell.rule()
    pruners: list[sp.SynapticPruner] = []

    def attach(net: "nn.Module", optimizer: "Optimizer", steps: int) -> sp.SynapticPruner:
        pruners.append(sp.SynapticPruner(net, optimizer, rule, total_steps=steps))
        return pruners[0]

    run = train(
        model,
        task,
        epochs=cell.epochs,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        batch_size=cell.batch_size,
        attach=None if rule is None else attach,
    )
    record: dict[str, Any] = {
        "cell": cell.to_dict(),
        "hash": cell.hash,
        "status": run.status if run.status == "ok" else f"{run.status}: {run.reason}",
        "versions": versions(),
        "train_seconds": run.seconds,
        "best_epoch": run.best_epoch,
        "history": run.history,
    }
    if run.status != "ok":
        return record
    save_network(model, cell, folder)
    layers = Synapses(model).layers
    record["layers"] = {x.name: [int(x.parameter.count_nonzero()), x.parameter.numel()] for x in layers}
    record["sparsity"] = run.sparsity
    record["accuracy"] = accuracy(model, task.test)
    record["validation_accuracy"] = accuracy(model, task.validation)
    record["majority"] = float((task.test.labels == task.train.labels.mode().values).float().mean())
    if isinstance(rule, sp.Disuse):
        masks = [layer.alive for layer in pruners[0].synapses.layers]
        pairs = list(zip(rule.streaks(), masks, strict=True))
        record["streaks"] = {
            "patience": rule.patience,
            "alive": streak_counts(streaks[mask] for streaks, mask in pairs),
            "removed": streak_counts(streaks[~mask] for streaks, mask in pairs),
        }
    record["peak_memory_mb"] = peak_memory_mb()
    return record
