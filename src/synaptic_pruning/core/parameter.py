"""One prunable parameter and its mask."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from synaptic_pruning.core.masks import pack, unpack
from synaptic_pruning.core.sharding import Shard, local, local_like, total, whole


@dataclass(eq=False)
class PrunableParameter:
    """One prunable parameter; of a sharded one, this rank's part.

    ``alive`` is the truth about what is pruned. Every other form of the mask is made from it.

    Attributes:
        name: Its name in the model.
        parameter: The parameter itself, shape (outputs, ...).
        alive: Bool tensor of the shape of `weight`, True where the weight is alive; `set_mask` replaces it.
        num_gates: Rows that belong to one output unit: 4 in an LSTM, 3 in a GRU, else 1.
        transposed_groups: Groups of a transposed convolution, or 1 of a Conv1D: outputs are dimension 1; else 0.
        shard: How the parameter is sharded; None when all of it is here.
        count: Weights alive, over all ranks.
    """

    name: str
    parameter: nn.Parameter
    alive: Tensor
    num_gates: int
    transposed_groups: int
    shard: Shard | None = None
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.set_mask(self.alive)

    @property
    def size(self) -> int:
        """Weights of the parameter, over all ranks."""
        return self.parameter.numel()

    @property
    def weight(self) -> Tensor:
        """This rank's part of the parameter, sharing its storage."""
        return local(self.parameter)

    @property
    def gradient(self) -> Tensor | None:
        """This rank's part of the gradient; None where there is none."""
        gradient = self.parameter.grad
        return None if gradient is None else local_like(gradient, self.parameter)

    def set_mask(self, mask: Tensor, count: int | None = None) -> None:
        """Replace the mask; of a sharded parameter, every rank must call it.

        Args:
            mask: Bool tensor of the shape of `weight`, True = alive.
            count: Entries that are True, over all ranks, where that is known already.
        """
        self.alive = mask.to(self.parameter.device)
        self.count = int(total(mask.sum().cpu()[None], [self.shard])) if count is None else count

    def mask(self) -> Tensor:
        """Return a copy of the mask in the parameter's own shape and layout."""
        return self.laid_out(self.alive.clone())

    def packed_mask(self) -> Tensor:
        """Return the mask as a checkpoint holds it: one bit a weight; of a sharded parameter, a DTensor."""
        return pack(self.alive) if self.shard is None else self.mask()

    def read_mask(self, stored: Tensor) -> Tensor:
        """Return this rank's part of a mask out of a checkpoint: packed, whole or sharded.

        Raises:
            ValueError: A packed mask of another size.
        """
        return self.part_of(whole(stored) if stored.dtype is torch.bool else unpack(stored, self.parameter.shape))

    def laid_out(self, part: Tensor) -> Tensor:
        """Return the tensor of which this is the rank's part, in the parameter's own layout."""
        return part if self.shard is None else self.shard.wrap(part)

    def part_of(self, whole: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor of the parameter's shape."""
        return whole if self.shard is None else self.shard.take(whole)

    def rows(self, entries: Tensor) -> Tensor:
        """Return entries of `weight`'s shape as (outputs, inputs · kernel), those of a gate in rows of their own."""
        if entries.dim() < 2:
            return entries.reshape(-1, 1)
        if groups := self.transposed_groups:
            entries = entries.reshape(groups, entries.shape[0] // groups, *entries.shape[1:])
            entries = entries.transpose(1, 2).flatten(0, 1)
        return entries.flatten(1)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return entries in `weight`'s shape again, which `rows` has laid out otherwise."""
        shape, groups = self.alive.shape, self.transposed_groups
        if groups and len(shape) > 1:
            rows = rows.reshape(groups, shape[1], shape[0] // groups, *shape[2:]).transpose(1, 2)
        return rows.reshape(shape)

    def unreached_units(self) -> int:
        """Count output units that no alive weight of this parameter reaches; of a shard, every rank must call it."""
        alive = whole(self.mask())
        units = self.rows(alive).any(1).reshape(self.num_gates, -1).any(0)
        return int((~units).sum())
