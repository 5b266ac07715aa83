"""Banks: units that compete with each other, and where their weights lie."""

from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core import Synapses


@dataclass
class UnitPart:
    """Where in one parameter the units of a bank are.

    Attributes:
        parameter: Its name in the module.
        axis: The axis the units lie along.
        places: Positions along that axis, (units, positions a unit).
        scored: Whether the score is made of them: the weights into a unit, not its bias or weights out; all weights
            that read an input feature.
    """

    parameter: str
    axis: int
    places: Tensor
    scored: bool


@dataclass
class Bank:
    """Units that compete with each other, and the masks (by place in the synapses) they lie in."""

    name: str
    parts: list[tuple[int, UnitPart]]

    def alive(self, synapses: Synapses) -> Tensor:
        """Which units have an alive weight among those that are scored: bool, (units,)."""
        counts = torch.zeros((), dtype=torch.float32, device="cpu")
        for place, part in self.parts:
            if part.scored:
                counts = counts + _sums(synapses.layers[place].alive.float(), part)
        return counts > 0

    def norms(self, synapses: Synapses) -> Tensor:
        """Euclidean norm of the alive weights of each unit that are scored, NaN for a unit that has none."""
        squares = torch.zeros((), dtype=torch.float32, device="cpu")
        for place, part in self.parts:
            if part.scored:
                layer = synapses.layers[place]
                weight = layer.weight.detach()
                weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
                squares = squares + _sums(weight.square().where(layer.alive, 0), part)
        if squares.isnan().any():
            raise ValueError(f"a weight of {self.name} is NaN; lower the learning rate or clip gradients")
        return squares.sqrt().where(self.alive(synapses), torch.nan)

    def weakest(self, synapses: Synapses, sparsity: float) -> Tensor:
        """Numbers of the weakest units, to be pruned so that this part of all is; one always stays."""
        norms = self.norms(synapses)
        pruned = int(norms.isnan().sum())
        wanted = min(round(sparsity * norms.numel()), norms.numel() - 1) - pruned
        return norms.nan_to_num(nan=torch.inf).argsort(stable=True)[: max(0, wanted)]

    def prune(self, units: Tensor, masks: list[Tensor]) -> None:
        """Set the masks of these units to False, in place."""
        for place, part in self.parts:
            masks[place].index_fill_(part.axis, part.places.to(units.device)[units].flatten(), False)


def rows_of(units: int, gates: int = 1) -> Tensor:
    """Row numbers of each unit, one in every gate: (units, gates)."""
    return torch.arange(gates * units, device="cpu").view(gates, units).T


def _sums(values: Tensor, part: UnitPart) -> Tensor:
    """Sum over everything that belongs to each unit."""
    flat = values.movedim(part.axis, 0).flatten(1).sum(1) if values.dim() > 1 else values
    return flat[part.places.to(values.device)].sum(1)
