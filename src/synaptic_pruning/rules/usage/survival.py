"""Survival: prune connections whose leaky usage score falls below zero."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter
from synaptic_pruning.core.topk import LazyScores, kth_smallest
from synaptic_pruning.rules.usage.base import UsageRule


@dataclass
class Survival(UsageRule):
    """Prune a connection for good when its leaky survival score falls below zero.

    After window number n = 0, 1, … the score becomes ``S ← 0.999·S + (2u − cost)·exp(−⌊(n − 5)/period⌋)``. u is the
    connection's usage over the 75th percentile of its layer's alive connections, at most 1. A score takes four bytes.

    Args:
        cost: Subtracted each window in layers without kernels, at least 0; a connection whose usage u stays below half
            of it is pruned in the end.
        conv_cost: The same in convolutions.
        period: Windows after which gains and costs weigh e times less, at least 1.
        initial: The score at the start, above 0.
        window: See `UsageRule`, as the arguments that follow.
        end: Training progress from which nothing is pruned any more.
        max_layer_sparsity: No layer goes above it.
        sample: One step in this many is observed.

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
            raise ValueError(f"initial={self.initial} must be above 0, or all connections would be pruned at once")

    def initial_state(self, layer: PrunableParameter) -> Tensor:
        """Return the initial score."""
        return torch.full_like(layer.alive, self.initial, dtype=torch.float32)

    def update_state(self, layer: PrunableParameter, used: Tensor, mean: float, state: Tensor, window: int) -> None:
        """Add the usage and subtract the cost."""
        if layer.count == 0:
            return
        top = kth_smallest([LazyScores.of(used, layer.name, layer.alive.reshape(-1))], math.ceil(0.75 * layer.count))
        gain = (used / top).clamp(max=1) * 2 if top > 0 else torch.zeros_like(used)
        cost = self.conv_cost if layer.alive.dim() > 2 else self.cost
        state.mul_(0.999).add_((gain - cost) * math.exp(-((window - 5) // self.period)))

    def to_prune(self, state: Tensor) -> Tensor:
        """Return True where the score is below zero."""
        return state < 0
