"""What processes of cells do in tests, in the place of a training or around one.

Every such process imports this file anew: it imports nothing that a training would not import anyway.
"""

import os
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from synaptic_pruning.study.engine import Team, cells_of
from synaptic_pruning.study.forecasting import Cell, run_cell, run_job
from synaptic_pruning.tasks.forecasting import Series


def _trace(folder: Path, name: object) -> None:
    """Leave a file that tells of one execution."""
    (folder / f"run-{name}-{time.time_ns()}").touch()


def slow_training(cell: Cell, series: Series, folder: Path) -> dict:
    """A real training, slow enough to be caught in flight."""
    _trace(folder, cell.hash)
    time.sleep(0.3)
    return run_cell(cell, series, folder)


def told_training(job: Cell | Team, series: Series, folder: Path) -> dict:
    """A real training whose process tells what it had imported in the end."""
    record = run_job(job, series, folder)
    for own in record.get("cells", [record]):
        own["modules"] = sorted(sys.modules)
    return record


def diverging_training(cell: Cell, series: Series, folder: Path) -> dict:
    """On "slow" dropout diverges, is killed and runs out of memory, seed by seed; the rest is real."""
    if cell.dataset == "slow" and cell.option.dropout:
        if cell.seed == 1:  # a real divergence
            return run_cell(replace(cell, learning_rate=1e30, batch_size=8), series, folder) | {"hash": cell.hash}
        if cell.seed == 2:  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if cell.seed == 3:
            resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
            torch.ones(2**40)
    return run_cell(cell, series, folder)


def failing_team(job: Cell | Team, series: Series, folder: Path) -> dict:
    """A team is killed, but for that of dropout, which raises; single cells are real."""
    if isinstance(job, Team):
        if job.cells[0].option.dropout:
            raise RuntimeError("no luck")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(job, series, folder)


def square(cell: Cell, series: Series, folder: Path) -> dict:
    """Stands in for a training, slow enough to be caught in flight: the square of the seed and the rows."""
    _trace(folder, cell.seed)
    time.sleep(0.3)
    return {"cell": cell.to_dict(), "hash": cell.hash, "status": "ok", "value": cell.seed**2 + len(series.times)}


def failing_square(cell: Cell, series: Series, folder: Path) -> dict:
    """Stands in for a training that raises with seed 1, is killed with seed 2 and diverges with seed 3."""
    if cell.seed == 1:
        raise RuntimeError("no luck")
    if cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    status = "nan-loss: the loss was no longer finite" if cell.seed == 3 else "ok"
    _trace(folder, cell.seed)
    return {"cell": cell.to_dict(), "hash": cell.hash, "status": status, "value": float("nan")}


def traced(job: Cell | Team, series: Series, folder: Path) -> dict:
    """Stands in for a training, and leaves a trace of every cell."""
    for cell in cells_of(job):
        _trace(folder, cell.hash)
    return {"cells": [{"cell": c.to_dict(), "hash": c.hash, "status": "ok"} for c in cells_of(job)]}


def untraced(cell: Cell, series: Series, folder: Path) -> dict:
    """Stands in for a training."""
    return {"cell": cell.to_dict(), "hash": cell.hash, "status": "ok"}
