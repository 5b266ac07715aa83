"""A small study for real processes, and helpers to interrupt them and wait for them."""

import signal
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


def listen() -> None:
    """Hear Ctrl-C even where the tests themselves run in the background, which a shell starts deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
