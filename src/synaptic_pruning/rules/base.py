"""What dies (and, for growth rules, what is born) at an event."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from synaptic_pruning.core.synapses import Synapses


class Rule(ABC):
    """What `SynapticPruner` asks of a rule. Only ``end`` and ``update`` must be given; a rule with a memory has more.

    One rule object with a memory serves one pruner.

    Attributes:
        shardable: True for a rule that is exact on parameters sharded over several processes, for it only ranks scores.
        grows: True for a rule whose masks may revive weights; they start at zero with clean optimizer state.
        biases: True for a rule that removes biases too: those of the default choice of layers are then prunable.
        end: Training progress in [0, 1] from which the rule changes nothing any more; the pruner calls ``update`` one
            last time when it is reached.
    """

    shardable: ClassVar[bool] = False
    grows: ClassVar[bool] = False
    biases: ClassVar[bool] = False

    @property
    @abstractmethod
    def end(self) -> float:
        """See the class."""

    @property
    def ramp_end(self) -> float:
        """Training progress from which the sparsity stays as it is, though a rule that grows may still swap weights."""
        return self.end

    @abstractmethod
    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return the new mask of every layer, True where a weight is alive, without changing anything of the network.

        Args:
            synapses: The prunable weights and their present masks.
            progress: Training progress in (0, 1].
        """

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Get ready for a model, such as by forward hooks, and return the masks to start with.

        Args:
            model: The network as the pruner got it, wrappers included.
            synapses: Its prunable weights.
        """
        return [layer.alive for layer in synapses.layers]

    def objection(self, synapses: Synapses) -> str:
        """Return why these weights must not be started on, with what to do instead; empty where they may.

        Asked before anything is removed, never on resuming. It becomes an error at the first step, unless a checkpoint
        of the pruner is loaded before.
        """
        return ""

    def started(self, synapses: Synapses) -> None:
        """Change weights that survive the start; called once, after its masks are in force, never on resuming."""

    def before_event(self, synapses: Synapses) -> None:
        """Look at the gradients just before the step that ends in an event, those of dead weights still untouched."""

    def observe(self, synapses: Synapses) -> None:
        """Take notice of a real optimizer step; called after it and before ``update``."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            ValueError: The state is another rule's.
        """

    def detach(self) -> None:
        """Let go of the model."""
