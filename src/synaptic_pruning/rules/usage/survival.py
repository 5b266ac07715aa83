"""Survival scores: every connection earns by use and pays to live."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.topk.lazy_scores import Scores
from synaptic_pruning.core.topk.select import kth_smallest
from synaptic_pruning.rules.usage.base import ByUsage


@dataclass
class Survival(ByUsage):
    """Remove a connection for good when its leaky survival score falls below zero.

    After window number n = 0, 1, … the score becomes ``S ← 0.999·S + (2u − cost)·exp(−⌊(n − 5)/period⌋)``. u is the
    connection's usage over the 75th percentile of its layer's alive connections, at most 1. Scores take four bytes a
    connection.

    Args:
        cost: What a window of life costs in layers without kernels, at least 0; what is used less than half of it on
            the whole dies.
        conv_cost: The same in convolutions.
        period: Windows after which gains and costs weigh e times less, at least 1.
        initial: The score at the start, above 0.
        window: See `ByUsage`, as the arguments that follow.
        end: Training progress from which nothing dies any more.
        max_layer_sparsity: No layer goes above it.
        sample: Watch one step in this many.

    Raises:
        ValueError: A number outside its range.

    Source: the DPAP rule in Brain-Cog, with our usage for its trace; an epoch there is a window here, and its extra
        bonus for connections that gain is left out.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = torch.nn.Linear(8, 4)
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> pruner = sp.SynapticPruner(net, optimizer, sp.Survival(cost=1.0), total_steps=1000)
    """

    cost: float = 1.5
    conv_cost: float = 0.65
    period: int = 12
    initial: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cost", "conv_cost"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")
        if self.period < 1:
            raise ValueError(f"period={self.period} must be at least 1 window")
        if not 0 < self.initial < float("inf"):
            raise ValueError(f"initial={self.initial} must be above 0, or all connections would die at once")

    def fresh(self, layer: Layer) -> Tensor:
        """Return the initial score."""
        return torch.full_like(layer.alive, self.initial, dtype=torch.float32)

    def judge(self, layer: Layer, used: Tensor, mean: float, memory: Tensor, window: int) -> None:
        """Let every connection earn and pay."""
        if layer.count == 0:
            return
        top = kth_smallest([Scores.of(used, layer.name, layer.alive.reshape(-1))], math.ceil(0.75 * layer.count))
        gain = (used / top).clamp(max=1) * 2 if top > 0 else torch.zeros_like(used)
        cost = self.conv_cost if layer.alive.dim() > 2 else self.cost
        memory.mul_(0.999).add_((gain - cost) * math.exp(-((window - 5) // self.period)))

    def condemned(self, memory: Tensor) -> Tensor:
        """Return True where the score is below zero."""
        return memory < 0
