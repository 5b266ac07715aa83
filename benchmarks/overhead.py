"""Time a training step with the pruner against the same loop without it, and where the difference lies.

Two loops without it and two with it take turns, a few steps each (`turns`); two that do the same tell how far such a
comparison can be trusted.
Run: OMP_NUM_THREADS=1 python benchmarks/overhead.py [network ...]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from interleaved import STEPS, alternate, cost, mean
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.tasks.forecasting.models import build_model

BATCH, WINDOW, CHANNELS = 64, 30, 1
RUNS = 3
RULES = {"default": lambda: 0.8, "SET": lambda: sp.SET(0.8, scaled_start=True)}
PARTS = ("forward", "backward", "optimizer step")


def _loop(name: str, rule: str | None, seconds: list[float]) -> Callable[[], None]:
    """Return one training step, which adds up in ``seconds`` what its parts take."""
    torch.manual_seed(0)
    model: nn.Module = build_model(name, channels=CHANNELS, length=WINDOW, horizon=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if rule is not None:
        sp.SynapticPruner(model, optimizer, RULES[rule](), total_steps=STEPS)
    x, y = torch.randn(BATCH, WINDOW, CHANNELS), torch.randn(BATCH, 1)

    def step() -> None:
        marks = [time.process_time()]
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        marks.append(time.process_time())
        loss.backward()
        marks.append(time.process_time())
        optimizer.step()
        marks.append(time.process_time())
        for part in range(len(PARTS)):
            seconds[part] += marks[part + 1] - marks[part]

    return step


def _measure(name: str, rule: str) -> None:
    parts = [[0.0] * len(PARTS) for _ in range(4)]
    a, b, c, d = alternate([_loop(name, rule if place % 2 == 1 else None, parts[place]) for place in range(4)], STEPS)
    whole = sum(a + c)
    extra = [(q + s - p - r) / whole for p, q, r, s in zip(*parts, strict=True)]
    print(
        f"{name}, {rule}: {1e3 * statistics.fmean(a + c):.2f} ms a step, pruned {cost(mean(b, d), mean(a, c))} "
        f"({', '.join(f'{part} {100 * x:+.2f}' for part, x in zip(PARTS, extra, strict=True))}; "
        f"of the same: without {cost(c, a)}, with {cost(d, b)})",
        flush=True,
    )


def main() -> None:
    """Print a line for each run of each network."""
    print(
        f"batch {BATCH}, window {WINDOW}, default and SET over {STEPS} steps, {torch.get_num_threads()} thread; "
        "± 2 standard errors"
    )
    for name in sys.argv[1:] or ("lstm", "rnn", "patchtst"):
        for rule in RULES:
            for _ in range(RUNS):
                _measure(name, rule)


if __name__ == "__main__":
    main()
