"""CPU time of a training step by window length: dropout 0.3 and the published pruning against the plain network.

The three loops take turns, a few steps each, over one training of 220 steps, so that every mask update is counted; the
time is that of the processor, which other work on the machine disturbs less than it does the clock on the wall.

Run: OMP_NUM_THREADS=1 python benchmarks/lengths.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.study.arms import ARMS, Grid
from synaptic_pruning.tasks.forecasting.models import MODELS, build_model

LENGTHS, BATCH, STEPS, BLOCK = (1, 3, 7, 14, 30, 60), 64, 220, 5
COMPARED = ("none", "dropout", "vos2025")


def training(name: str, length: int, arm: str) -> Callable[[int], float]:
    """Return a function that takes some more steps of a training and returns the seconds they took."""
    (regime,) = ARMS[arm].candidates(Grid(dropout=(0.3,), sparsity=(0.7,)))
    torch.manual_seed(0)
    model = build_model(name, channels=1, length=length, horizon=1, dropout=regime.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rule = regime.rule(0)
    if rule is not None:
        sp.SynapticPruner(model, optimizer, rule, total_steps=STEPS)
    x, y = torch.randn(BATCH, length, 1), torch.randn(BATCH, 1)

    def steps(count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        return time.process_time() - start

    return steps


def measure(name: str, length: int) -> dict[str, float]:
    """Return the seconds that a step of each arm takes."""
    for arm in COMPARED:
        training(name, length, arm)(BLOCK)
    trainings = {arm: training(name, length, arm) for arm in COMPARED}
    seconds = dict.fromkeys(COMPARED, 0.0)
    for _ in range(STEPS // BLOCK):
        for arm, steps in trainings.items():
            seconds[arm] += steps(BLOCK)
    return {arm: value / STEPS for arm, value in seconds.items()}


def main() -> None:
    """Print the plain network's time a step and the ratios of the others, one column a length."""
    torch.set_num_threads(1)
    found = {(name, length): measure(name, length) for name in MODELS for length in LENGTHS}
    print("window length:", *LENGTHS, sep="\t")
    for name in MODELS:
        print(f"{name}, none, ms", *(f"{1e3 * found[name, length]['none']:.2f}" for length in LENGTHS), sep="\t")
        for arm in COMPARED[1:]:
            ratios = (found[name, length][arm] / found[name, length]["none"] for length in LENGTHS)
            print(f"{name}, {arm}", *(f"× {ratio:.2f}" for ratio in ratios), sep="\t")
    for arm in COMPARED[1:]:
        over = {n: [found[name, n][arm] / found[name, n]["none"] for name in MODELS] for n in LENGTHS}
        print(f"all models, {arm}", *(f"× {statistics.geometric_mean(over[n]):.2f}" for n in LENGTHS), sep="\t")


if __name__ == "__main__":
    main()
