"""What dies (and, for growth rules, what is born) at an event."""

from typing import Protocol

from torch import Tensor

from synaptic_pruning.synapses import Synapses


class Rule(Protocol):
    """What `SynapticPruner` asks of a rule; any object with these two members will do.

    Attributes:
        end: Training progress in [0, 1] from which the rule changes nothing any more; the pruner calls ``update`` one
            last time when it is reached.
    """

    @property
    def end(self) -> float:
        """See the class."""

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return the new mask of every layer, True where a weight is alive, without changing anything.

        Args:
            synapses: The prunable weights and their present masks.
            progress: Training progress in (0, 1].
        """
