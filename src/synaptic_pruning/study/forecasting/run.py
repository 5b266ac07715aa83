"""Cells that differ in their seeds alone, trained side by side in one process where that is faster."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synaptic_pruning.study.engine.records import Job, Record, Team
from synaptic_pruning.study.forecasting.cells import (
    Cell,
    attached,
    build,
    hash_of,
    record_of,
    run_cell,
    settings,
    task_of,
)

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting.data.series import Series
    from synaptic_pruning.tasks.forecasting.models import RNNForecaster

FASTER = ("rnn",)
"""Models that several seeds of train faster together than one by one: see `python benchmarks/study.py`."""


def group(cells: Iterable[Job]) -> list[list[Job]]:
    """Put cells that make a team side by side, every other one by itself; in the order of the first of each."""
    groups: dict[str, list[Job]] = {}
    for cell in cells:
        groups.setdefault(_team(cell), []).append(cell)
    return list(groups.values())


def run_job(job: Job, series: "Series", folder: Path) -> Record:
    """Run a cell, or a team of cells; see `cells.run_cell`."""
    if not isinstance(job, Team):
        return run_cell(cast(Cell, job), series, folder)
    from synaptic_pruning.tasks.forecasting.batched_training import train_together

    cells = cast(tuple[Cell, ...], job.cells)
    task = task_of(cells[0], series)
    models = [cast("RNNForecaster", build(cell, task)) for cell in cells]
    trainings = train_together(
        models,
        task,
        settings(cells[0], task),
        seeds=[cell.stream for cell in cells],
        attach=[attached(cell) for cell in cells],
    )
    records = [
        record_of(cell, model, task, training, folder) | {"together": len(cells)}
        for cell, model, training in zip(cells, models, trainings, strict=True)
    ]
    return {"cells": records}


def _team(job: Job) -> str:
    """Return what the cells of a team have in common."""
    if not (isinstance(job, Cell) and job.together):
        return job.hash
    common: dict[str, Any] = job.to_dict()
    return hash_of({name: value for name, value in common.items() if name not in ("seed", "rule")})
