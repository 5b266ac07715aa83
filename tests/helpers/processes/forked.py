"""Run code in a fork of this process, which has imported already what a new interpreter would import for seconds."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import torch._dynamo  # noqa: F401  # the first optimizer of a process takes seconds to import it

from synaptic_pruning.study.engine.local import Processes, Work


class Forked:
    """A function that runs in a process of its own and in a process group of its own, as a command in a terminal.

    Args:
        run: What to call there.
        folder: Its working directory, in which its output is kept.
    """

    def __init__(self, run: Callable[[], object], folder: Path) -> None:
        self._out, self._error = folder / "stdout.txt", folder / "stderr.txt"
        self._process = multiprocessing.get_context("fork").Process(target=self._body, args=(run, folder))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def _body(self, run: Callable[[], object], folder: Path) -> None:
        os.setsid()
        os.chdir(folder)
        for path, stream in ((self._out, 1), (self._error, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        warnings.resetwarnings()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to it
        multiprocessing.forkserver._forkserver.__init__()  # type: ignore[attr-defined, misc]  # one of its own
        multiprocessing.util.spawnv_passfds = _forked_interpreter
        try:
            run()
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    def kill(self) -> None:
        """Kill this process alone."""
        self._process.kill()

    def ended(self, timeout: float = 300) -> CompletedProcess[str]:
        """Return what became of it, after waiting for its end."""
        self._process.join(timeout)
        self._process.kill()
        self._process.join()
        assert self._process.exitcode is not None
        return CompletedProcess([], self._process.exitcode, self._out.read_text(), self._error.read_text())


def _forked_interpreter(path: str, words: Sequence[str], fds: Sequence[int]) -> int:
    """Run ``python -c code``, by which a fork server begins, in a fork: it needs to import nothing more."""
    pid = os.fork()
    if pid:
        return pid
    # As in a new interpreter: of what else is open the server would hold the ends that tell it to go.
    fds = sorted(fds)
    for low, high in pairwise([2, *fds, os.sysconf("SC_OPEN_MAX")]):
        os.closerange(low + 1, high)
    try:
        exec(words[-1], {})
    finally:
        os._exit(0)


def forked(run: Callable[[], object], folder: Path) -> CompletedProcess[str]:
    """Return what became of a function in a fork; see `Forked`."""
    return Forked(run, folder).ended()


def forked_script(script: Path, folder: Path) -> CompletedProcess[str]:
    """Run a file as ``python file`` would."""
    return forked(lambda: runpy.run_path(str(script), run_name="__main__"), folder)


class ForkedProcesses(Processes):
    """Cells in forks of this process, not of the fork server, which has not imported what images need."""

    def __init__(self, jobs: int, *work: Work) -> None:
        super().__init__(jobs, *work)
        self._context = multiprocessing.get_context("fork")
