"""One prunable parameter with its mask."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from synaptic_pruning.core.sharding import Shard, local, local_like, total, whole

_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_SMALL = 1 << 20


@dataclass(eq=False)
class Layer:
    """One prunable parameter; of one that is cut into shards over several processes, this rank's part.

    Attributes:
        name: Its name in the model.
        parameter: The parameter itself, shape (outputs, ...).
        alive: Bool tensor of the shape of `weight`, True where the weight still is.
        gates: How many rows belong to one output unit: 4 in an LSTM, 3 in a GRU, else 1.
        transposed: For a transposed convolution, whose outputs are dimension 1, its groups; else 0.
        shard: How the parameter is cut; None when all of it is here.
        count: How many weights are alive, over all ranks.
        gate: The mask as integers of the weights' own width, 1 for alive, where the dead are silenced by their bits.
    """

    name: str
    parameter: nn.Parameter
    alive: Tensor
    gates: int
    transposed: int
    shard: Shard | None = None
    count: int = field(init=False)
    gate: Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.keep(self.alive)

    @property
    def size(self) -> int:
        """How many weights the parameter has, over all ranks."""
        return self.parameter.numel()

    @property
    def weight(self) -> Tensor:
        """This rank's part of the parameter, sharing its storage."""
        return local(self.parameter)

    @property
    def gradient(self) -> Tensor | None:
        """This rank's part of the gradient, if there is one."""
        gradient = self.parameter.grad
        return None if gradient is None else local_like(gradient, self.parameter)

    def mask(self) -> Tensor:
        """Return a copy of the mask in the parameter's own shape and layout."""
        return self.laid_out(self.alive.clone())

    def laid_out(self, part: Tensor) -> Tensor:
        """Return a tensor of which this is the rank's part, in the parameter's own layout."""
        return part if self.shard is None or self.shard.wrap is None else self.shard.wrap(part)

    def part_of(self, whole: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor of the parameter's shape."""
        return whole if self.shard is None else self.shard.take(whole)

    def keep(self, mask: Tensor, count: int | None = None) -> None:
        """Take a new mask of the shape of `weight`, True where it is alive; of a shard, every rank must call it.

        Args:
            mask: The mask.
            count: How many entries are True, over all ranks, where that is known already.
        """
        self.alive = mask.to(self.parameter.device)
        self.count = int(total(mask.sum().cpu()[None], [self.shard])) if count is None else count
        # On a CPU, bits times 0 or 1 is three times faster than any kernel that takes a bool mask. On a GPU it saves
        # every small layer the start of a kernel; large ones had better save the memory.
        integer = _SAME_WIDTH.get(self.parameter.element_size())
        here = self.alive.is_cpu or (self.alive.is_cuda and self.size <= _SMALL)
        if not here or integer is None or self.count == self.size:
            self.gate = None
        elif self.gate is None or self.gate.dtype is not integer or self.gate.device != self.alive.device:
            self.gate = self.alive.to(integer)
        else:
            self.gate.copy_(self.alive)  # memory that is there already is many times faster than fresh one

    def silence(self, tensor: Tensor, zero: int = 0) -> None:
        """Set the entries of a tensor of the parameter's shape to exactly zero, in place, where the weight is dead.

        Call it under ``torch.no_grad()``.

        Args:
            tensor: A weight, a gradient or what an optimizer remembers.
            zero: What stands for zero in it, of a tensor of codes.
        """
        if self.count == self.size:
            return
        tensor = local(tensor)
        if self.gate is not None and tensor.device == self.gate.device and tensor.dtype is self.parameter.dtype:
            tensor.view(self.gate.dtype).mul_(self.gate)
        else:
            tensor.masked_fill_(~self.alive.to(tensor.device), zero)

    def dead_units(self) -> int:
        """Count output units that no alive weight of this parameter reaches; of a shard, every rank must call it."""
        alive = whole(self.mask())
        if self.transposed:
            units = alive.reshape(self.transposed, -1, *alive.shape[1:]).any(1).flatten(2).any(2)
        else:
            units = alive.reshape(self.gates, alive.shape[0] // self.gates, -1).any(2).any(0)
        return int((~units).sum())
