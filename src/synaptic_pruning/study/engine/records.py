"""Write and read the records of a study: one JSON file a cell, with its settings and what came of them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NotRequired, Protocol, TypedDict, TypeVar, cast

from synaptic_pruning.study.engine.atomic_write import write_atomically

Settings = TypeVar("Settings")


class Record(TypedDict, Generic[Settings]):
    """What came of one cell: the entries that every task writes; each task adds its own.

    A cell that failed, was killed or diverged has fewer. Numbers that were not finite are None once they are read.

    Attributes:
        cell: Settings of the cell, as `Job.to_dict` returns them.
        hash: `Job.hash`, the name of the file.
        status: "ok", or the kind of failure, a colon and the reason.
        versions: Versions of Python, this library and PyTorch.
        train_seconds: Time of the training steps.
        best_epoch: Epoch of the evaluated weights, from 1 on; 0 is the start.
        history: One dict an epoch: epoch, train_loss, a validation measure, sparsity, seconds.
        sparsity: Share of the prunable weights that are pruned among the evaluated ones, in [0, 1].
        peak_memory_mb: Largest memory of the process.
    """

    cell: Settings
    hash: str
    status: str
    versions: NotRequired[dict[str, str]]
    train_seconds: NotRequired[float]
    best_epoch: NotRequired[int]
    history: NotRequired[list[dict[str, float]]]
    sparsity: NotRequired[float]
    peak_memory_mb: NotRequired[float]


class TeamRecord(TypedDict):
    """What came of a team.

    Attributes:
        cells: The record of each of its cells.
    """

    cells: Sequence[Record[Any]]


Outcome = Record[Any] | TeamRecord
"""What the work of a job returns."""


class Job(Protocol):
    """What the runner and the executors know of a cell, whatever its task."""

    @property
    def data(self) -> str:
        """Name of what it is trained on."""

    @property
    def hash(self) -> str:
        """Name of its record, the same for the same settings and data everywhere."""

    @property
    def team_key(self) -> str:
        """Equal for cells that are to run together in one process; `hash` for one that runs alone."""

    def to_dict(self) -> Mapping[str, Any]:
        """Return its settings as plain values."""


@dataclass(frozen=True)
class Team:
    """Cells that run together in one process: one job to the executors, and a record each all the same."""

    cells: tuple[Job, ...]

    @property
    def data(self) -> str:
        """Name of what they are trained on."""
        return self.cells[0].data

    @property
    def hash(self) -> str:
        """The hash of the first of them."""
        return self.cells[0].hash

    @property
    def team_key(self) -> str:
        """What they have in common."""
        return self.cells[0].team_key

    def to_dict(self) -> Mapping[str, Any]:
        """Return the settings of the first of them."""
        return self.cells[0].to_dict()


def group(cells: Iterable[Job]) -> list[list[Job]]:
    """Put cells of an equal `Job.team_key` side by side, in the order of the first of each."""
    groups: dict[str, list[Job]] = {}
    for cell in cells:
        groups.setdefault(cell.team_key, []).append(cell)
    return list(groups.values())


def cells_of(job: Job) -> tuple[Job, ...]:
    """Return the cells of a job."""
    return job.cells if isinstance(job, Team) else (job,)


def failure(cell: Job, reason: str) -> Record[Any]:
    """Return the record of a cell that has no result."""
    return {"cell": cell.to_dict(), "hash": cell.hash, "status": reason}


def job_failure(job: Job, reason: str) -> TeamRecord:
    """Return what came of a job that has no result, a record for each of its cells."""
    return {"cells": [failure(cell, reason) for cell in cells_of(job)]}


def is_final(record: Record[Any] | None) -> bool:
    """Say whether a cell need not be tried again: it ended well or diverged, it did not raise and was not killed.

    Example:
        >>> is_final({"cell": {}, "hash": "", "status": "nan-loss: ..."}), is_final(None)
        (True, False)
    """
    return record is not None and not record["status"].startswith(("failed", "killed"))


def write_record(folder: Path, job: Job, outcome: Outcome) -> None:
    """Write `<hash>.json` of every cell, each whole or not at all."""
    records = cast(Mapping[str, Any], outcome).get("cells", [outcome])
    for cell, record in zip(cells_of(job), records, strict=True):
        write_atomically(folder / f"{cell.hash}.json", json.dumps(_finite(record), allow_nan=False))


def read_record(folder: Path, cell: Job) -> Record[Any] | None:
    """Return the record of a cell, or None where there is none that can be read."""
    try:
        record: Record[Any] = json.loads((folder / f"{cell.hash}.json").read_text())
    except (OSError, ValueError):
        return None
    return record


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
