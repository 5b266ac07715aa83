"""Base class of pruning rules: a rule returns the new masks at each event."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from synaptic_pruning.core import Synapses


class Rule(ABC):
    """Decides at each event which weights are pruned and, for rules that grow, which grow.

    A subclass must give ``end`` and ``update``; the other methods are for rules with a state, with a sparse start or
    with growth. One rule object with a state serves one pruner.

    Attributes:
        shardable: True for a rule that is exact on sharded parameters, as one that only ranks scores.
        grows: True for a rule whose masks may revive weights; those start at zero with clean optimizer state.
        biases: True for a rule that prunes biases too: those of the default choice of layers are then prunable.
        compensate: Largest factor on learning rates that belongs to the rule, at least 1; see `SynapticPruner`.
        end: Training progress in [0, 1] from which the rule changes nothing any more; ``update`` is called one last
            time when it is reached.

    Example:
        >>> import torch, synaptic_pruning as sp
        >>> class LastRow(sp.Rule):
        ...     '''Prune the last row of every layer at half of training.'''
        ...     end = 0.5
        ...     def update(self, synapses, progress):
        ...         if progress < self.end:
        ...             return [layer.alive for layer in synapses.layers]
        ...         masks = [layer.alive.clone() for layer in synapses.layers]
        ...         for mask in masks:
        ...             mask[-1] = False
        ...         return masks
        >>> net = nn.Linear(3, 4)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> pruner = sp.SynapticPruner(net, optimizer, LastRow(), total_steps=2)
        >>> for _ in range(2):
        ...     net(torch.ones(1, 3)).sum().backward()
        ...     optimizer.step()
        >>> pruner.sparsity()
        0.25
    """

    shardable: ClassVar[bool] = False
    grows: ClassVar[bool] = False
    biases: ClassVar[bool] = False
    compensate: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def end(self) -> float:
        """See the class."""

    @property
    def ramp_end(self) -> float:
        """Training progress from which the sparsity stays as it is; a rule that grows may still swap weights then."""
        return self.end

    @abstractmethod
    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return the new mask of every layer; change neither network nor masks.

        To leave a layer unchanged, return its ``layer.alive``: **the same tensor object means "unchanged"**, and its
        contents are not looked at again. Never write into ``layer.alive``; clone it.

        Args:
            synapses: The prunable weights and their present masks.
            progress: Training progress in (0, 1].

        Returns:
            For each layer a bool tensor of the shape of its ``weight``, True = alive.
        """

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Get ready for a model, such as by forward hooks, and return the initial masks; see `update`.

        Args:
            model: The network as the pruner got it, wrappers included.
            synapses: Its prunable weights.
        """
        return [layer.alive for layer in synapses.layers]

    def refusal(self, synapses: Synapses) -> str:
        """Return why training must not start on these weights, with what to do instead; empty where it may.

        Asked when the pruner is made, before `attach`, never on resuming. The pruner raises it as a `ValueError`.
        """
        return ""

    def initialise(self, synapses: Synapses) -> None:
        """Change the alive weights once, after the initial masks were applied; never called on resuming."""

    def before_event(self, synapses: Synapses) -> None:
        """Read the gradients just before the step of an event, those of pruned weights included."""

    def observe(self, synapses: Synapses) -> None:
        """Count a real optimizer step; called after it and before ``update``."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            ValueError: The state is another rule's.
        """

    def detach(self) -> None:
        """Release the model; may be called twice, or without `attach`."""
