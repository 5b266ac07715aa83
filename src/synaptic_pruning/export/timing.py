"""Fair timing: candidates take turns, so that whatever else runs on the machine hits all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

_ROUND = 1e-3  # seconds one candidate runs at a time, at least


def side_by_side(
    candidates: Mapping[str, Callable[[], object]], seconds: float = 0.3, least_rounds: int = 5
) -> dict[str, float]:
    """Median seconds a call of each candidate, measured in turns (A, B, A, B, …) after one call to warm up.

    Args:
        candidates: what to time, by name.
        seconds: about how long to measure in all.
        least_rounds: turns each candidate gets even if that takes longer.

    >>> sorted(side_by_side({"a": lambda: sum(range(10)), "b": lambda: None}, seconds=0.01))
    ['a', 'b']
    """
    calls, single = {}, {}
    for name, run in candidates.items():
        run()
        begin = time.perf_counter()
        run()
        single[name] = time.perf_counter() - begin
        calls[name] = max(1, round(_ROUND / max(single[name], 1e-9)))
    rounds = max(least_rounds, round(seconds / sum(max(_ROUND, s) for s in single.values())))
    found: dict[str, list[float]] = {name: [] for name in candidates}
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in candidates.items():
                begin = time.perf_counter()
                for _ in range(calls[name]):
                    run()
                found[name].append((time.perf_counter() - begin) / calls[name])
    finally:
        if was_collecting:
            gc.enable()
    return {name: statistics.median(times) for name, times in found.items()}


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """PyTorch on so many threads inside the block; None leaves it alone."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)
