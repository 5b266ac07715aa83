"""One JSON file a cell: its settings, what came of them, or why nothing did."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synaptic_pruning.study.engine.atomic_write import write_atomically

Record = dict[str, Any]


class Job(Protocol):
    """What the runner and the executors know of a cell, whatever its task."""

    @property
    def dataset(self) -> str:
        """Name of its data."""

    @property
    def hash(self) -> str:
        """Name of its record, the same for the same settings and data everywhere."""

    def to_dict(self) -> dict[str, Any]:
        """Return its settings as plain values."""


@dataclass(frozen=True)
class Team:
    """Cells that go together in one process: one job to the executors, and a record each all the same.

    What is done for it returns ``{"cells": [a record for each]}``.
    """

    cells: tuple[Job, ...]

    @property
    def dataset(self) -> str:
        """Name of their data."""
        return self.cells[0].dataset

    @property
    def hash(self) -> str:
        """The name of the first of them."""
        return self.cells[0].hash

    def to_dict(self) -> dict[str, Any]:
        """Return the settings of the first of them."""
        return self.cells[0].to_dict()


def cells_of(job: Job) -> tuple[Job, ...]:
    """Return the cells of a job."""
    return job.cells if isinstance(job, Team) else (job,)


def failure(job: Job, reason: str) -> Record:
    """Return the record of a job that has no result."""
    if isinstance(job, Team):
        return {"cells": [failure(cell, reason) for cell in job.cells]}
    return {"cell": job.to_dict(), "hash": job.hash, "status": reason}


def write_record(folder: Path, job: Job, record: Record) -> None:
    """Write `<hash>.json` of every cell, each whole or not at all."""
    for cell, own in zip(cells_of(job), record.get("cells", [record]), strict=True):
        write_atomically(folder / f"{cell.hash}.json", json.dumps(_finite(own), allow_nan=False))


def read_record(folder: Path, cell: Job) -> Record | None:
    """The record of a cell, or None when there is none that can be read."""
    try:
        record: Record = json.loads((folder / f"{cell.hash}.json").read_text())
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
