"""Run code in a fork of this process, which has imported already what a new interpreter would import for seconds."""

import multiprocessing
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import torch._dynamo  # noqa: F401  # the first optimizer of a process takes seconds to import it

from synaptic_pruning.study.engine.local import Processes, Work


class ForkedProcesses(Processes):
    """Cells in forks of this process, not of the fork server, which has not imported what images need."""

    def __init__(self, jobs: int, *work: Work) -> None:
        super().__init__(jobs, *work)
        self._context = multiprocessing.get_context("fork")


def forked(run: Callable[[], object], folder: Path, timeout: float = 300) -> CompletedProcess[str]:
    """Call a function in a process of its own, whose working directory is ``folder``; return what became of it."""
    out, error = folder / "stdout.txt", folder / "stderr.txt"
    process = multiprocessing.get_context("fork").Process(target=_told, args=(run, folder, out, error))
    process.start()
    process.join(timeout)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return CompletedProcess([], process.exitcode, out.read_text(), error.read_text())


def forked_script(script: Path, folder: Path) -> CompletedProcess[str]:
    """Run a file as ``python file`` would."""
    return forked(lambda: runpy.run_path(str(script), run_name="__main__"), folder)


def _told(run: Callable[[], object], folder: Path, out: Path, error: Path) -> None:
    for path, stream in ((out, 1), (error, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    warnings.resetwarnings()
    try:
        run()
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
