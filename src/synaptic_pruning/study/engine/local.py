"""Where cells run: in processes of this machine. `ray_cluster` has the same for a cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, cast

from synaptic_pruning.study.engine.records import Job, Record, failure, write_record
from synaptic_pruning.study.forecasting.run import run_job

_PRELOAD = ["synaptic_pruning.study.preload"]

Work = Callable[[Any, Any, Path], Record]
"""What is done for a cell with its data; files beside the record go to the folder."""


class Executor(Protocol):
    """What the runner asks of the place where cells run."""

    def room(self, running: int) -> bool:
        """Whether one more cell may be started beside the running ones."""

    def start(self, cell: Job, data: Any, folder: Path) -> Any:
        """Start a cell, which will leave its record in the folder, and return something hashable to know it by."""

    def wait(self, running: Mapping[Any, Job], folder: Path) -> Collection[Any]:
        """Wait until some of the running cells have left their records; return what they are known by."""

    def stop(self, running: Collection[Any]) -> None:
        """Stop what still runs."""


class Processes:
    """Every cell in its own process on one thread, so that its time and its peak memory are its own.

    Args:
        jobs: how many at once, at least 1.
        work: what a process does for a cell; returns the record.
    """

    def __init__(self, jobs: int, work: Work = run_job) -> None:
        self.jobs = jobs
        self.work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        self._processes: dict[int, BaseProcess] = {}

    def room(self, running: int) -> bool:
        """See `Executor`."""
        return running < self.jobs

    def start(self, cell: Job, data: Any, folder: Path) -> int:
        """See `Executor`."""
        process = self._context.Process(target=_alone, args=(self.work, cell, data, folder), daemon=True)
        process.start()
        self._processes[process.sentinel] = process
        return process.sentinel

    def wait(self, running: Mapping[int, Job], folder: Path) -> list[int]:
        """See `Executor`."""
        ended = [cast(int, sentinel) for sentinel in wait(list(running))]
        for sentinel in ended:
            process = self._processes.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                write_record(folder, running[sentinel], failure(running[sentinel], _reason(process.exitcode)))
        return ended

    def stop(self, running: Collection[int]) -> None:
        """See `Executor`."""
        # A Ctrl-C within `wait` leaves some among the running that are no longer ours.
        processes = [self._processes.pop(sentinel) for sentinel in running if sentinel in self._processes]
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def attempt(work: Work, cell: Job, data: Any, folder: Path) -> Record:
    """Do the work of a cell on one thread; what it raises is recorded, not hidden."""
    import torch

    torch.set_num_threads(1)
    try:
        return work(cell, data, folder)
    except Exception as error:  # the row of this cell carries the reason
        return failure(cell, f"failed: {type(error).__name__}: {error}")


def _alone(work: Work, cell: Job, data: Any, folder: Path) -> None:
    """The body of a cell's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    write_record(folder, cell, attempt(work, cell, data, folder))
    os._exit(0)  # the record is on disk; taking PyTorch down in order would cost a tenth of a second


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _reason(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "killed: signal 9, most often because memory ran out"
    if exitcode is not None and exitcode < 0:
        return f"killed: signal {-exitcode}"
    return f"killed: exit code {exitcode}"
