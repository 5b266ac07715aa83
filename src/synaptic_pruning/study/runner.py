"""Run every cell in a process of its own; keep what is finished, whatever happens to the rest."""

import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from synaptic_pruning.study.cells import Cell, run_cell
from synaptic_pruning.study.storage import write_atomically
from synaptic_pruning.tasks.forecasting.series import Series

_PRELOAD = ["synaptic_pruning.study.runner", "torch._dynamo", "safetensors.torch"]
"""Imported once by the fork server instead of once a cell; PyTorch's optimizers import `_dynamo` when first used."""

Record = dict[str, Any]
Work = Callable[[Cell, Series, Path], Record]


def run(
    cells: Iterable[Cell], series: Mapping[str, Series], folder: Path, *, jobs: int, work: Work = run_cell
) -> list[Record]:
    """Run the cells that `folder` does not hold yet and return the records of all of them.

    Every cell runs in its own process on one thread, so that its time and its peak memory are its own, and leaves
    one JSON file, written atomically. A cell that raises, diverges or is killed leaves a record that says so; only
    those that raised or were killed are tried again by the next call.

    Args:
        cells: what to run.
        series: the data sets by `Cell.dataset`.
        folder: existing folder of the records, one `<hash>.json` a cell.
        jobs: how many processes at once, at least 1.
        work: what a process does for a cell; returns the record.

    Returns:
        The records in the order of `cells`.

    Raises:
        KeyboardInterrupt: after the running cells were stopped; finished ones are kept.
    """
    cells = list(cells)
    todo = sorted((c for c in cells if not _is_final(read_record(folder, c))), key=lambda cell: cell.hash)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    running: dict[int, tuple[BaseProcess, Cell]] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("Training", total=len(cells), completed=len(cells) - len(todo))
        waiting = list(reversed(todo))  # in the order of the hashes: a random order, so the time left is honest
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell = waiting.pop()
                    process = context.Process(
                        target=_work_alone, args=(work, cell, series[cell.dataset], folder), daemon=True
                    )
                    process.start()
                    running[process.sentinel] = process, cell
                for sentinel in wait(list(running)):
                    done, cell = running.pop(cast(int, sentinel))
                    done.join()
                    if done.exitcode != 0:
                        _write(folder, cell, _failure(cell, _reason(done.exitcode)))
                    progress.advance(bar)
        finally:
            for left, _ in running.values():
                left.kill()
            for left, _ in running.values():
                left.join()
    return [read_record(folder, cell) or _failure(cell, "failed: left no record") for cell in cells]


def read_record(folder: Path, cell: Cell) -> Record | None:
    """The record of a cell, or None when there is none that can be read."""
    try:
        record: Record = json.loads((folder / f"{cell.hash}.json").read_text())
    except (OSError, ValueError):
        return None
    return record


def _is_final(record: Record | None) -> bool:
    return record is not None and not record["status"].startswith(("failed", "killed"))


def _work_alone(work: Work, cell: Cell, series: Series, folder: Path) -> None:
    """The body of a cell's process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        record = work(cell, series, folder)
    except Exception as error:  # recorded, not hidden: the row of this cell carries the reason
        record = _failure(cell, f"failed: {type(error).__name__}: {error}")
    _write(folder, cell, record)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write(folder: Path, cell: Cell, record: Record) -> None:
    write_atomically(folder / f"{cell.hash}.json", json.dumps(_finite(record), allow_nan=False))


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _failure(cell: Cell, reason: str) -> Record:
    return {"cell": cell.to_dict(), "hash": cell.hash, "status": reason}


def _reason(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "killed: signal 9, most often because memory ran out"
    if exitcode is not None and exitcode < 0:
        return f"killed: signal {-exitcode}"
    return f"killed: exit code {exitcode}"
