"""A small study for processes that are killed and interrupted, and what waits for them."""

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
baselines = []
"""
CELLS = 8  # of this spec


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
