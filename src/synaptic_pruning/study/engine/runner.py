"""Run every cell once; keep what is finished, whatever happens to the rest."""

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from synaptic_pruning.study.engine.records import (
    Job,
    Record,
    Team,
    cells_of,
    failure,
    group,
    is_final,
    read_record,
)

_LOCKS = "locks"
_LOOK_AGAIN = 0.5
"""Seconds between looks at cells that another run on the same folder is busy with."""
_DRAWN = 2
"""Times a second that the bar is drawn anew, on a core that trains too."""


_FIRST = 3
"""Cells after which the time for the rest is said, or as many as run at once."""


class Executor(Protocol):
    """What the runner asks of the place where cells run, such as `Processes` or `RayCluster`."""

    def room(self, running: int) -> bool:
        """Say whether one more cell may be started beside the running ones."""

    def start(self, cell: Job, data: Any, folder: Path) -> Any:
        """Start a cell, which will leave its record in the folder, and return something hashable to know it by."""

    def wait(self, running: Mapping[Any, Job], folder: Path) -> Collection[Any]:
        """Wait until some of the running cells have left their records; return what they are known by."""

    def stop(self, running: Collection[Any]) -> None:
        """Stop what still runs."""


def run(
    cells: Iterable[Job], data: Mapping[str, Any], folder: Path, executor: Executor, later: int = 0
) -> list[Record[Any]]:
    """Run the cells that `folder` does not hold yet and return the records of all of them.

    Every cell leaves one JSON file, written atomically. A cell that raises, diverges or is killed leaves a record that
    says so; only those that raised or were killed are tried again by the next call. Several calls may share a folder,
    also in several processes: a cell is locked while it runs, the lock falls with its holder, and the others take
    what is left and wait for the rest. Cells of an equal `Job.team_key` make a `Team` and start in one process. After
    the first cells the time for the rest is said, where it is a minute or more.

    Args:
        cells: Cells to run.
        data: Data sets by `Job.data`.
        folder: Existing folder of the records, one `<hash>.json` a cell.
        executor: Place where they run.
        later: Number of cells that the caller will run afterwards, for the time that is said.

    Returns:
        The records in the order of `cells`.

    Raises:
        KeyboardInterrupt: After the running cells were stopped; finished ones are kept.
    """
    cells, began = list(cells), time.time()
    (folder / _LOCKS).mkdir(exist_ok=True)
    todo = sorted((cell for cell in cells if not is_final(read_record(folder, cell))), key=lambda cell: cell.hash)
    running: dict[Any, Job] = {}
    locks: dict[str, FileLock] = {}
    started, finished, at_once, said = time.monotonic(), 0, 0, False
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=_DRAWN) as progress:
        bar = progress.add_task("Training", total=len(cells), completed=len(cells) - len(todo))
        waiting = group(todo)[::-1]  # in the order of the hashes: a random order, so the time left is honest
        elsewhere: list[list[Job]] = []
        try:
            while waiting or running or elsewhere:
                while waiting and executor.room(len(running)):
                    mine: list[Job] = []
                    others: list[Job] = []
                    for cell in waiting.pop():
                        lock = _claim(folder, cell)
                        if lock is None:
                            others.append(cell)
                        elif is_final(read_record(folder, cell)) or _changed_since(began, folder, cell):
                            lock.release()
                            progress.advance(bar)
                        else:
                            locks[cell.hash] = lock
                            mine.append(cell)
                    if others:
                        elsewhere.append(others)
                    if mine:
                        job = mine[0] if len(mine) == 1 else Team(tuple(mine))
                        running[executor.start(job, data[job.data], folder)] = job
                if running:
                    at_once = max(at_once, len(running))
                    for done in executor.wait(running, folder):
                        for cell in cells_of(running.pop(done)):
                            locks.pop(cell.hash).release()
                            progress.advance(bar)
                            finished += 1
                    if not said and finished >= max(_FIRST, at_once):
                        said = True
                        left = len(todo) - finished + later
                        if text := time_left((time.monotonic() - started) / finished * left):
                            progress.console.print(f"{text} for {left} more, going by the first {finished}.")
                elif elsewhere:
                    time.sleep(_LOOK_AGAIN)
                if not waiting:
                    waiting, elsewhere = elsewhere[::-1], []
        finally:
            executor.stop(list(running))
            for lock in locks.values():
                lock.release()
    return [read_record(folder, cell) or failure(cell, "failed: left no record") for cell in cells]


def time_left(seconds: float) -> str:
    """Say about how long something takes, "" for less than a minute.

    Example:
        >>> time_left(59), time_left(90), time_left(47 * 60), time_left(7 * 3600 + 600)
        ('', 'About 2 minutes', 'About 47 minutes', 'About 7.2 hours')
    """
    if seconds < 60:
        return ""
    minutes = round(seconds / 60)
    if minutes >= 100:
        return f"About {seconds / 3600:.1f} hours"
    return f"About {minutes} minute{'s' if minutes > 1 else ''}"


def in_flight(folder: Path, cell: Job) -> bool:
    """Say whether some run is busy with a cell right now."""
    if not (folder / _LOCKS / cell.hash).exists():
        return False
    lock = _claim(folder, cell)
    if lock is not None:
        lock.release()
    return lock is None


def _claim(folder: Path, cell: Job) -> FileLock | None:
    lock = FileLock(folder / _LOCKS / cell.hash)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _changed_since(began: float, folder: Path, cell: Job) -> bool:
    """Say whether another run has tried the cell since this one began; what failed there is left to the next call."""
    path = folder / f"{cell.hash}.json"
    return path.exists() and path.stat().st_mtime > began
