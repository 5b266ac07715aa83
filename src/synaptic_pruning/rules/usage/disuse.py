"""Use it or lose it: connections that stay idle several windows in a row are removed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.rules.usage.base import ByUsage


@dataclass
class Disuse(ByUsage):
    """Remove a connection for good when it was idle ``patience`` windows in a row.

    In a window a connection is idle when its usage |w|·E|x| is zero or below ``threshold`` times the mean usage of its
    layer's alive connections; a busy window sets its streak back to zero. Streaks take one byte a connection, activity
    one number an input.

    Args:
        patience: Idle windows in a row that end a connection, from 1 to 255.
        threshold: Fraction of the layer's mean usage, at least 0. Removal raises the mean, so the threshold decides
            how far a layer thins out: higher is sparser; see docs/rules.md for figures.
        window: See `ByUsage`, as the arguments that follow.
        end: Training progress from which nothing dies any more.
        max_layer_sparsity: No layer goes above it.
        sample: Watch one step in this many.

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

    def fresh(self, layer: Layer) -> Tensor:
        """Return streaks of zero."""
        return torch.zeros_like(layer.alive, dtype=torch.uint8)

    def judge(self, layer: Layer, used: Tensor, mean: float, memory: Tensor, window: int) -> None:
        """Lengthen the streaks of idle connections, up to 255, and end the others."""
        limit = self.threshold * mean
        # No usage is below 0, so one pass is enough; in place and then made bytes, it is four times faster.
        idle = (used.lt_(limit) if limit > 0 else used.eq_(0)).bool()
        # Up to 255. Clamping, and conditions seen as bytes, are many times faster than comparing bytes.
        memory.clamp_(max=254).add_(1).mul_(idle.view(torch.uint8))

    def condemned(self, memory: Tensor) -> Tensor:
        """Return True where the streak has reached ``patience``."""
        below = self.patience - 1  # arithmetic, since it is many times faster than to compare bytes
        return memory.clamp(min=below, max=self.patience).sub_(below).view(torch.bool)

    def streaks(self) -> list[Tensor]:
        """Return the present idle streak of every connection, a uint8 tensor a layer, for histograms."""
        return [memory.clone() for memory in self._memory]
