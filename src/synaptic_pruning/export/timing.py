"""Time candidates in turns, so that other load on the machine hits all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

_MIN_TURN = 1e-3  # seconds that a candidate runs in one turn, at least


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]], seconds: float = 0.3, min_rounds: int = 5
) -> dict[str, float]:
    """Return the median seconds a call of each candidate, measured in turns (A, B, A, B, …).

    Every candidate is called twice before measuring. The garbage collector is off meanwhile.

    Args:
        candidates: Functions to time, by name.
        seconds: Approximate time to measure in all, in seconds.
        min_rounds: Number of turns that each candidate gets even if that takes longer.

    Returns:
        Median seconds a call, by name.

    Example:
        >>> sorted(time_interleaved({"a": lambda: sum(range(10)), "b": lambda: None}, seconds=0.01))
        ['a', 'b']
    """
    calls, single = {}, {}
    for name, run in candidates.items():
        run()
        begin = time.perf_counter()
        run()
        single[name] = time.perf_counter() - begin
        calls[name] = max(1, round(_MIN_TURN / max(single[name], 1e-9)))
    rounds = max(min_rounds, round(seconds / sum(max(_MIN_TURN, s) for s in single.values())))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in candidates.items():
                begin = time.perf_counter()
                for _ in range(calls[name]):
                    run()
                times[name].append((time.perf_counter() - begin) / calls[name])
    finally:
        if was_collecting:
            gc.enable()
    return {name: statistics.median(measured) for name, measured in times.items()}


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set PyTorch's number of threads inside the block; None leaves it as it is."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)
