"""Track which unit every entry of every tensor belongs to, and which units must stay.

A *unit* is one feature that some layer computes: an output of a Linear, a channel of a convolution, a hidden
unit of an LSTM. Adding two tensors unites their units: they stay or go together. A flatten repeats a unit.
Operations that cannot be traced pin the units they read: a pinned unit stays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class UnitTag:
    """Units and constants of a tensor, entry by entry; both are as large as the tensor.

    Attributes:
        ids: Unit numbers; None where units cannot be told apart.
        constant: The entry's value where it is the same for every input, NaN elsewhere.
    """

    ids: Tensor | None
    constant: Tensor

    def axes(self) -> list[int]:
        """Return the axes along which the unit changes; one axis for an ordinary tensor of features."""
        if self.ids is None:
            return []
        return [a for a in range(self.ids.dim()) if (self.ids != self.ids.narrow(a, 0, 1)).any()]


class UnitGraph:
    """Number units, unite them (union-find), and keep the reason why a unit must stay.

    Attributes:
        reasons: The first reason given for each pinned unit, by unit number.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self.reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int, pinned: str = "") -> Tensor:
        """Return the numbers of ``count`` new units; a reason in ``pinned`` pins them."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        ids = torch.arange(first, first + count)
        if pinned:
            self.pin(ids, pinned)
        return ids

    def find(self, unit: int) -> int:
        """Return the unit that represents all units united with ``unit``."""
        while self._parent[unit] != unit:
            self._parent[unit] = self._parent[self._parent[unit]]
            unit = self._parent[unit]
        return unit

    def find_all(self, ids: Tensor) -> Tensor:
        """Return `find` of each unit."""
        return torch.tensor([self.find(unit) for unit in ids.tolist()], dtype=torch.long)

    def pin(self, ids: Tensor | None, reason: str) -> None:
        """Mark units that must stay; the first reason given for a unit is kept."""
        if ids is not None:
            for unit in ids.unique().tolist():
                self.reasons.setdefault(unit, reason)

    def union(self, a: Tensor, b: Tensor) -> bool:
        """Unite units entry by entry; return False, with nothing done, if a unit would be united with several."""
        pairs = torch.stack([a.flatten(), b.flatten()]).unique(dim=1)
        if any(side.unique().numel() != pairs.shape[1] for side in pairs):
            return False
        for one, other in pairs.T.tolist():
            self._parent[self.find(one)] = self.find(other)
        return True

    def pinned(self) -> Tensor:
        """Return a mask (units) that is True for the representatives of pinned units."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[self.find_all(torch.tensor(list(self.reasons), dtype=torch.long))] = True
        return mask


def vector_along(tensor: Tensor, axis: int) -> Tensor | None:
    """Return the vector that a tensor repeats along ``axis``; None if it varies along other axes too."""
    rows = tensor.movedim(axis, -1).flatten(0, -2) if tensor.dim() > 1 else tensor[None]
    return rows[0] if bool((rows == rows[0]).all()) else None


def constants_along(tensor: Tensor, axis: int) -> Tensor:
    """Return the vector along ``axis``, with NaN where entries differ along other axes."""
    rows = tensor.movedim(axis, -1).flatten(0, -2) if tensor.dim() > 1 else tensor[None]
    return rows[0].where((rows == rows[0]).all(0), torch.nan)


def broadcast_along(vector: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """Return a vector along ``axis`` of a tensor of that shape, as a view."""
    view = [1] * len(shape)
    view[axis] = -1
    return vector.view(view).expand(shape)
