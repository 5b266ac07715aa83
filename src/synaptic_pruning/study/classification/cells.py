"""Define and do a cell of a study on images: one training of one classifier, and the record that it leaves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import synaptic_pruning as sp
from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.engine import (
    PRUNING_CODE,
    Record,
    code_digest,
    content_hash,
    hashed_versions,
    peak_memory_mb,
    save_network,
    stable_repr,
    versions,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from synaptic_pruning.tasks.classification import ClassificationTask


TRAINING_CODE = (
    *PRUNING_CODE,
    "tasks/classification",
    "study/algorithms.py",
    "study/classification/arms.py",
    "study/classification/cells.py",
)
"""What a training and its scores come from: results of other code are not taken for those of this one."""


class ImageSettings(TypedDict):
    """An `ImageCell` as records and hashes hold it.

    Attributes:
        rule: `repr` of the rule.
        dropout: Probability of the dropout layers while training.
        versions: Versions of this library and of PyTorch.
        code: Digest of the code that trains it.
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
    rule: str
    dropout: float
    versions: dict[str, str]
    code: str


class Streaks(TypedDict):
    """How many connections under “disuse” were idle for how many windows in a row when pruning ended.

    Attributes:
        patience: Idle windows in a row that end a connection.
        alive: Counts of connections that are alive, by length of the streak from 0 on.
        removed: The same of those that were pruned.
    """

    patience: int
    alive: list[int]
    removed: list[int]


class ImageRecord(Record[ImageSettings], total=False):
    """What came of a cell, beside what every record holds; a cell that did not end well has less.

    Attributes:
        layers: For every prunable layer its weights that are not zero, and all of them.
        accuracy: Share of the test images that are right, in [0, 1].
        validation_accuracy: The same of the validation images.
        majority: Share of the test images of the class that is most frequent in training.
        streaks: Idle streaks; of “disuse” alone.
    """

    layers: dict[str, Sequence[int]]
    accuracy: float
    validation_accuracy: float
    majority: float
    streaks: Streaks


@dataclass(frozen=True)
class ImageSet:
    """Where a cell's process finds its images; they are read there, not sent."""

    name: str
    data_dir: Path | None
    digest: str


@dataclass(frozen=True)
class ImageCell:
    """One training. Its `hash` covers settings, rule, data, code, and the versions of this library and of PyTorch.

    Attributes:
        arm: A name of `ARMS`.
        sparsity: What a matched arm is brought to; 0 for the others.
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

    def rule(self) -> sp.Rule | float | None:
        """Return the arm's fresh rule, or the sparsity of the default one."""
        return ARMS[self.arm].rule(self.sparsity, self.seed)

    def to_dict(self) -> ImageSettings:
        """Return the content that the hash covers, as plain values."""
        own = {"rule": stable_repr(self.rule()), "dropout": ARMS[self.arm].dropout, "versions": hashed_versions()}
        return cast(ImageSettings, asdict(self) | own | {"code": code_digest(*TRAINING_CODE)})

    @property
    def data(self) -> str:
        """Name of its data set."""
        return self.dataset

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits, the same on every machine and in every process."""
        return content_hash(self.to_dict())

    @property
    def team_key(self) -> str:
        """Its hash: classifiers are trained one by one."""
        return self.hash


def build_network(cell: ImageCell, task: "ClassificationTask") -> "nn.Module":
    """Return the fresh network of a cell; arms of one seed start alike."""
    from synaptic_pruning.tasks.classification import build_model

    return build_model(cell.model, task.shape, task.classes, seed=cell.seed, dropout=ARMS[cell.arm].dropout)


def run_image_cell(cell: ImageCell, images: ImageSet, folder: Path) -> ImageRecord:
    """Train one network, test it once, and return the record; the weights go to `folder`."""
    from synaptic_pruning.tasks.classification import accuracy, make_task, streak_counts, train

    task = make_task(images.name, images.data_dir)
    model, rule = build_network(cell, task), cell.rule()
    pruners: list[sp.SynapticPruner] = []

    def attach(net: "nn.Module", optimizer: "Optimizer", steps: int) -> sp.SynapticPruner:
        assert rule is not None
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
    record: ImageRecord = {
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
    layers = sp.Synapses(model).layers
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
