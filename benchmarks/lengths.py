"""CPU time of a training step by window length: dropout 0.3 and the published pruning against the plain network.

The three loops take turns, a few steps each (`turns`), over one training of 220 steps, so that every mask update is
counted; the time is that of the processor, which other work disturbs less than it does the clock on the wall.

Run: OMP_NUM_THREADS=1 python benchmarks/lengths.py
"""

import statistics
from collections.abc import Callable

import torch
from interleaved import alternate
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.study.forecasting import ARMS, Grid
from synaptic_pruning.tasks.forecasting.models import MODELS, build_model

LENGTHS, BATCH, STEPS, WARM_UP = (1, 3, 7, 14, 30, 60), 64, 220, 10
COMPARED = ("none", "dropout", "vos2025")


def training(name: str, length: int, arm: str) -> Callable[[], None]:
    """Return a function that takes one more step of a training."""
    (option,) = ARMS[arm].options(Grid())
    torch.manual_seed(0)
    model = build_model(name, channels=1, length=length, horizon=1, dropout=option.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rule = option.rule(0)
    if rule is not None:
        sp.SynapticPruner(model, optimizer, rule, total_steps=STEPS)
    x, y = torch.randn(BATCH, length, 1), torch.randn(BATCH, 1)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    return step


def measure(name: str, length: int) -> dict[str, float]:
    """Return the seconds that a step of each arm takes."""
    alternate([training(name, length, arm) for arm in COMPARED], WARM_UP)
    seconds = alternate([training(name, length, arm) for arm in COMPARED], STEPS)
    return {arm: statistics.fmean(steps) for arm, steps in zip(COMPARED, seconds, strict=True)}


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
