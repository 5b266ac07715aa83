"""RigL: like SET, but connections grow where the gradient of the whole batch is largest."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter, Synapses
from synaptic_pruning.rules.dynamic.random_growth import SET


@dataclass(repr=False)
class RigL(SET):
    """Like `SET`, but the grow score is the size of the gradient of the whole batch, pruned weights included.

    Source: Evci et al. (2020), The Rigged Lottery; but what is pruned at an event does not grow again at it.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.RigL(0.9, drop=0.3, end=0.75)
    """

    _gradients: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def before_event(self, synapses: Synapses) -> None:
        """Take the gradients while those of pruned weights are still there."""
        self._gradients = gradient_sizes(synapses)

    def grow_scores(self, layer: PrunableParameter, place: int) -> Tensor:
        """Return the size of the gradient; see `SET.grow_scores`."""
        return self._gradients[place].reshape(-1)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks in which weak connections made room for new ones; see `Rule.update`."""
        masks = super().update(synapses, progress)
        self._gradients = []
        return masks


def gradient_sizes(synapses: Synapses) -> list[Tensor]:
    """Return the size of every weight's gradient, of this rank's part; zeros where a parameter has none."""
    return [
        torch.zeros_like(layer.weight) if layer.gradient is None else layer.gradient.abs() for layer in synapses.layers
    ]
