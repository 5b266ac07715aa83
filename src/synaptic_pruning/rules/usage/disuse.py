"""Disuse, the rule "use it or lose it": prune connections that are idle several windows in a row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter
from synaptic_pruning.rules.usage.base import UsageRule


@dataclass
class Disuse(UsageRule):
    """Prune a connection for good when it was idle ``patience`` windows in a row.

    In a window a connection is idle when its usage |w|·E|x| is zero or below ``threshold`` times the mean usage of its
    layer's alive connections; a busy window resets its streak to zero. Streaks take one byte a connection, activity
    one number an input.

    At equal sparsity it is less accurate than magnitude (`ToSparsity`) in every comparison of docs/results/images.md.
    Take it where the sparsity is to come out of the data.

    Args:
        patience: Idle windows in a row after which a connection is pruned, from 1 to 255.
        threshold: Fraction of the layer's mean usage, at least 0. Pruning raises the mean, so the threshold decides
            the sparsity: higher is sparser; see docs/results/images.md for figures.
        window: See `UsageRule`, as the arguments that follow.
        end: Training progress from which nothing is pruned any more.
        max_layer_sparsity: No layer goes above it.
        sample: One step in this many is observed.

    Raises:
        ValueError: A number outside its range.

    Source: of the kind of Zhao & Zeng (2021), whose abstract prunes what is "not activated or less activated multiple
        times consecutively"; the usage is close to Wanda's (Sun et al. 2023); windows, threshold and floors are ours.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> pruner = sp.SynapticPruner(net, optimizer, sp.Disuse(patience=5, threshold=0.5), total_steps=1000)
    """

    patience: int = 5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.patience <= 255:
            raise ValueError(f"patience={self.patience} must be a number of windows from 1 to 255")
        if not 0 <= self.threshold < float("inf"):
            raise ValueError(f"threshold={self.threshold} must be a fraction of the layer's mean usage, at least 0")

    def initial_state(self, layer: PrunableParameter) -> Tensor:
        """Return streaks of zero."""
        return torch.zeros_like(layer.alive, dtype=torch.uint8)

    def update_state(self, layer: PrunableParameter, used: Tensor, mean: float, state: Tensor, window: int) -> None:
        """Lengthen the streaks of idle connections, up to 255, and end the others."""
        limit = self.threshold * mean
        # No usage is below 0, so one pass is enough.
        idle = (used.lt_(limit) if limit > 0 else used.eq_(0)).bool()
        # Arithmetic on bytes: comparisons of bytes are slow on a CPU (python benchmarks/activity.py).
        state.clamp_(max=254).add_(1).mul_(idle.view(torch.uint8))

    def to_prune(self, state: Tensor) -> Tensor:
        """Return True where the streak has reached ``patience``."""
        below = self.patience - 1  # arithmetic, as above
        return state.clamp(min=below, max=self.patience).sub_(below).view(torch.bool)

    def streaks(self) -> list[Tensor]:
        """Return the present idle streak of every connection, a uint8 tensor a layer, for histograms."""
        return [state.clone() for state in self._states]
