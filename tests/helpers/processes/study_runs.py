"""A small study for real processes, and helpers to interrupt them and wait for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

SPEC = """
title = "Tiny"
datasets = ["sunspots"]
rows = 80
models = ["rnn"]
arms = ["none", "dropout"]
lengths = [4]
seeds = 4
steps = 6
"""
CELLS = 8  # of this spec


def start(code: str) -> subprocess.Popen[str]:
    """Run code with an interpreter in a process group of its own, which can be killed like a terminal's."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from helpers.processes.study_runs import *; listen(); {code}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(*words: str) -> None:
    """The real command, its processes doing `slow_training`."""
    from helpers.processes.cell_work import slow_training
    from synaptic_pruning.cli import app
    from synaptic_pruning.study import forecasting

    forecasting.run_job = slow_training
    app(words)


def listen() -> None:
    """Hear Ctrl-C even where the tests themselves run in the background, which a shell starts deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
