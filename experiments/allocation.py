"""What a global ranking does to layers that start at unequal scales: plain networks on a made-up target.

Each network is trained dense and by the default's ramp to 80 %, ranked by magnitude, by relative magnitude (the
default), and by magnitude within each layer. Printed: the unexplained part of the variance on new data, the mean over
two seeds, and how many weights of the output layer stay.

Run: OMP_NUM_THREADS=1 python experiments/allocation.py
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

import synaptic_pruning as sp

NETWORKS = {"16–64–1": (16, 64), "8–256–1": (8, 256), "8–128–128–1": (8, 128, 128)}
RANKED = ("magnitude", "relative", "layer")


def target(inputs: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return a smooth function of all inputs, (n, inputs) to (n, 1)."""
    mixed = torch.randn(inputs, 5, generator=generator) / inputs**0.5
    return lambda x: torch.tanh(2 * (x @ mixed)).sum(1, keepdim=True) + x[:, :1] * x[:, 1:2]


def ranked_by(ranked: str, steps: int) -> sp.Rule:
    """Return the default's rule, ranked so."""
    rule = sp.default_rule(total_steps=steps)
    if ranked == "layer":
        return replace(rule, score="magnitude", scope="layer")
    return replace(rule, score=ranked)


def unexplained(sizes: tuple[int, ...], rate: float, steps: int, ranked: str | None, seed: int) -> tuple[float, int]:
    """Train a network, and return the unexplained part of the variance and the output weights that are left."""
    generator = torch.Generator().manual_seed(seed)
    wanted = target(sizes[0], generator)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if ranked:
        sp.SynapticPruner(net, optimizer, ranked_by(ranked, steps), total_steps=steps)
    for _ in range(steps):
        x = torch.randn(32, sizes[0], generator=generator)
        optimizer.zero_grad()
        (net(x) - wanted(x)).square().mean().backward()
        optimizer.step()
        schedule.step()
    x = torch.randn(4000, sizes[0], generator=generator)
    truth = wanted(x)
    with torch.no_grad():
        error = (net(x) - truth).square().mean() / truth.var()
    return float(error), int(net[-1].weight.count_nonzero())


def main() -> None:
    """Print the table."""
    print(f"| network | rate | steps | dense | {' | '.join(RANKED)} |")
    print(f"|---|---|---|---|{'---|' * len(RANKED)}")
    for name, sizes in NETWORKS.items():
        for rate in (1e-3, 1e-2):
            for steps in (300, 1200):
                told = []
                for ranked in (None, *RANKED):
                    errors, left = zip(*(unexplained(sizes, rate, steps, ranked, seed) for seed in (0, 1)), strict=True)
                    told.append(f"{sum(errors) / 2:.3f}" + (f" ({left[0]})" if ranked else ""))
                print(f"| {name} | {rate:g} | {steps:,} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
