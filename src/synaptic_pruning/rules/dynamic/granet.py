"""GraNet: start dense, prune on a cubic ramp, and swap like RigL at every event on top."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from synaptic_pruning.core import Synapses
from synaptic_pruning.rules.dynamic.gradient_growth import RigL
from synaptic_pruning.rules.schedules import cubic
from synaptic_pruning.rules.to_sparsity import ToSparsity


@dataclass(repr=False)
class GraNet(RigL):
    """Start dense, prune globally by magnitude on a cubic ramp, and swap like `RigL` at every event on top.

    What is pruned at an event may grow back at later ones. With a ``pattern`` the ramp is that of `ToSparsity` with it,
    and what a block drops it grows.

    Args:
        sparsity: At the end of the ramp, in (0, 1).
        begin: Training progress at which the ramp starts.
        ramp_end: Training progress at which it ends, at most ``end``.

    Source: Liu et al. (2021), Sparse Training via Boosting Pruning Plasticity with Neuroregeneration.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.GraNet(0.9, begin=0.05, ramp_end=0.5)
    """

    begin: float = 0.05
    ramp_end: float = 0.5
    _ramp: ToSparsity = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaled_start:
            raise ValueError("scaled_start=True has nothing to scale: GraNet starts dense; leave it out")
        if self.ramp_end > self.end:
            raise ValueError(f"ramp_end={self.ramp_end} must be at most end={self.end}, when the last swap is over")
        ramp = cubic(self.sparsity, begin=self.begin, end=self.ramp_end)
        self._ramp = ToSparsity(ramp, max_layer_sparsity=self.max_layer_sparsity, pattern=self.pattern)

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Return the present masks: training starts dense."""
        self._events = 0
        return self._ramp.attach(model, synapses)

    def prune_step(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks pruned to the sparsity of the ramp."""
        return self._ramp.update(synapses, progress)
