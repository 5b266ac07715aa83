"""Run cells in processes of this machine; `ray_cluster` does the same on a cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from synaptic_pruning.study.engine.records import Job, Outcome, job_failure, write_record

_PRELOAD = ["synaptic_pruning.study.preload"]

Work = Callable[[Any, Any, Path], Outcome]
"""What is done for a cell, or a team of them, with its data; files beside the records go to the folder."""


def cores() -> int:
    """Return how many cores this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Every cell in its own process on one thread, so that its time and its peak memory are its own.

    Args:
        jobs: Number of processes at once, at least 1.
        work: Importable function that a process calls for a cell; it returns the record.
    """

    def __init__(self, jobs: int, work: Work) -> None:
        self.jobs = jobs
        self.work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        self._processes: dict[int, BaseProcess] = {}

    def room(self, running: int) -> bool:
        """See `runner.Executor`."""
        return running < self.jobs

    def start(self, cell: Job, data: Any, folder: Path) -> int:
        """See `runner.Executor`."""
        process = self._context.Process(target=_alone, args=(self.work, cell, data, folder), daemon=True)
        process.start()
        self._processes[process.sentinel] = process
        return process.sentinel

    def wait(self, running: Mapping[int, Job], folder: Path) -> list[int]:
        """See `runner.Executor`."""
        ended = [cast(int, sentinel) for sentinel in wait(list(running))]
        for sentinel in ended:
            process = self._processes.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                job = running[sentinel]
                write_record(folder, job, job_failure(job, _reason(process.exitcode)))
        return ended

    def stop(self, running: Collection[int]) -> None:
        """See `runner.Executor`."""
        # A Ctrl-C within `wait` leaves some among the running that are no longer ours.
        processes = [self._processes.pop(sentinel) for sentinel in running if sentinel in self._processes]
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def attempt(work: Work, cell: Job, data: Any, folder: Path) -> Outcome:
    """Do the work of a cell on one thread; an exception becomes a record with its reason."""
    import torch

    torch.set_num_threads(1)
    try:
        return work(cell, data, folder)
    except Exception as error:  # the row of this cell carries the reason
        return job_failure(cell, f"failed: {type(error).__name__}: {error}")


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
