"""Which hidden unit every position of every tensor belongs to: the bookkeeping behind exact shrinking.

A *unit* is one feature that some layer makes: an output of a Linear, a channel of a convolution, a hidden
unit of an LSTM. Adding two tensors ties their units together (they stay or go as one), a flatten repeats a
unit, and whatever cannot be followed pins the units it sees: a pinned unit stays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Tag:
    """What is known about a tensor, position by position.

    `ids` are unit numbers, None where units can't be told apart. `constant` is the value where it is the same
    whatever the input, NaN elsewhere; both are as large as the tensor.
    """

    ids: Tensor | None
    constant: Tensor

    def axes(self) -> list[int]:
        """Axes along which the unit changes; one for a tensor whose features lie along one axis."""
        if self.ids is None:
            return []
        return [a for a in range(self.ids.dim()) if (self.ids != self.ids.narrow(a, 0, 1)).any()]


class Units:
    """Numbers units, ties them together (union-find) and remembers why some must stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self.reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int, pinned: str = "") -> Tensor:
        """Numbers of `count` new units; with a reason in `pinned` they stay."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        ids = torch.arange(first, first + count)
        if pinned:
            self.pin(ids, pinned)
        return ids

    def root(self, unit: int) -> int:
        """The unit that stands for all those tied to `unit`."""
        while self._parent[unit] != unit:
            self._parent[unit] = self._parent[self._parent[unit]]
            unit = self._parent[unit]
        return unit

    def roots(self, ids: Tensor) -> Tensor:
        """`root` of each."""
        return torch.tensor([self.root(unit) for unit in ids.tolist()], dtype=torch.long)

    def pin(self, ids: Tensor | None, reason: str) -> None:
        """These units stay; the first reason given for a unit is the one reported."""
        if ids is not None:
            for unit in ids.unique().tolist():
                self.reasons.setdefault(unit, reason)

    def tie(self, a: Tensor, b: Tensor) -> bool:
        """Tie units position by position; False, and nothing done, where one would be tied to several."""
        pairs = torch.stack([a.flatten(), b.flatten()]).unique(dim=1)
        if any(side.unique().numel() != pairs.shape[1] for side in pairs):
            return False
        for one, other in pairs.T.tolist():
            self._parent[self.root(one)] = self.root(other)
        return True

    def pinned(self) -> Tensor:
        """True for the roots of pinned units, (units,)."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[self.roots(torch.tensor(list(self.reasons), dtype=torch.long))] = True
        return mask


def along(tensor: Tensor, axis: int) -> Tensor | None:
    """The vector that `tensor` repeats along `axis`, None if it varies along others too."""
    rows = tensor.movedim(axis, -1).flatten(0, -2) if tensor.dim() > 1 else tensor[None]
    return rows[0] if bool((rows == rows[0]).all()) else None


def constants_along(tensor: Tensor, axis: int) -> Tensor:
    """As `along` position by position: the value where it is the same on all other axes, NaN elsewhere."""
    rows = tensor.movedim(axis, -1).flatten(0, -2) if tensor.dim() > 1 else tensor[None]
    return rows[0].where((rows == rows[0]).all(0), torch.nan)


def spread(vector: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """`vector` along `axis` of a tensor of `shape`, without copying."""
    view = [1] * len(shape)
    view[axis] = -1
    return vector.view(view).expand(shape)
