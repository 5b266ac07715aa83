"""Training time with the pruner against the same loop without it.

The two loops take turns, a few steps each, so whatever else the machine does falls on both.
Run: OMP_NUM_THREADS=1 python benchmarks/overhead.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting.models import build_model

BATCH, WINDOW, CHANNELS = 64, 30, 1
STEPS, BLOCK = 1500, 10


def _loop(name: str, pruned: bool) -> Callable[[int], None]:
    torch.manual_seed(0)
    model: nn.Module = build_model(name, channels=CHANNELS, length=WINDOW, horizon=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if pruned:
        sp.SynapticPruner(model, optimizer, total_steps=STEPS)
    x, y = torch.randn(BATCH, WINDOW, CHANNELS), torch.randn(BATCH, 1)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()

    return steps


def _timed(steps: Callable[[int], None]) -> float:
    start = time.perf_counter()
    steps(BLOCK)
    return time.perf_counter() - start


def _measure(name: str) -> float:
    _loop(name, True)(30)  # warm up the libraries on loops of their own, so that all the steps below are counted
    plain, pruned = _loop(name, False), _loop(name, True)
    seconds: list[tuple[float, float]] = []
    for block in range(STEPS // BLOCK):
        # Whoever goes second finds the caches warmer: take turns in that too.
        first, second = (plain, pruned) if block % 2 else (pruned, plain)
        pair = _timed(first), _timed(second)
        seconds.append(pair if block % 2 else (pair[1], pair[0]))
    # Events (in the first 80 % of training) fall into some blocks only, so average; trim what the machine disturbed.
    ratios = sorted(with_pruner / without for without, with_pruner in seconds)
    kept = ratios[len(ratios) // 10 : -(len(ratios) // 10)]
    return statistics.fmean(kept) - 1


def main() -> None:
    """Print the extra time a step for each network."""
    print(f"batch {BATCH}, window {WINDOW}, default recipe over {STEPS} steps, {torch.get_num_threads()} thread")
    for name in ("lstm", "rnn", "patchtst"):
        runs = sorted(_measure(name) for _ in range(3))
        print(f"{name}: {runs[1]:+.1%} time a step (three runs: {', '.join(f'{run:+.1%}' for run in runs)})")


if __name__ == "__main__":
    main()
