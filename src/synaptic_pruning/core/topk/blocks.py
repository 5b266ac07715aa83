"""Select within blocks: so many of the smallest scores among every n consecutive inputs of a row."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from synaptic_pruning.core.parameter import PrunableParameter
from synaptic_pruning.core.sharding import total
from synaptic_pruning.core.topk.float_keys import FoundNaN, refuse_nan
from synaptic_pruning.core.topk.lazy_scores import LazyScores, stop_at_nan

_CHUNK = 1 << 22
"""Entries that are ranked at a time: the places that are found with them take eight bytes each."""


class Blocks:
    """A parameter's rows, cut into blocks of n consecutive inputs; the last one of a row may be shorter.

    A row holds the weights into an output (into a gate of it), over the kernel of a convolution too: it is what
    `PrunableParameter.rows` gives. Of a sharded parameter these are the blocks of this rank's part.

    Args:
        layer: The parameter.
        n: Inputs of a block, at least 1.

    Attributes:
        shape: Of the weight.

    Example:
        >>> from torch import nn
        >>> from synaptic_pruning.core import Synapses
        >>> blocks = Blocks(Synapses(nn.Linear(5, 1)).layers[0], 4)
        >>> blocks.of(torch.tensor([[1, 2, 3, 4, 5]]))
        tensor([[[1, 2, 3, 4],
                 [5, 0, 0, 0]]])
        >>> blocks.limits(2)
        tensor([2, 1])
    """

    def __init__(self, layer: PrunableParameter, n: int) -> None:
        self._layer, self._n = layer, n
        self._columns = layer.rows(layer.alive).shape[1]
        self._number = -(-self._columns // n)
        self.shape = layer.alive.shape

    def of(self, entries: Tensor) -> Tensor:
        """Return entries of the weight's shape by blocks, (rows, blocks, n); what a short block lacks is 0 or False."""
        rows = self._layer.rows(entries)
        padded = pad(rows, (0, self._number * self._n - self._columns))
        return padded.reshape(rows.shape[0], self._number, self._n)

    def entries(self, blocks: Tensor) -> Tensor:
        """Return entries by blocks in the weight's shape: what `of` has undone."""
        return self._layer.from_rows(blocks.flatten(1)[:, : self._columns])

    def limits(self, k: int) -> Tensor:
        """Return how many a block keeps where whole ones keep k, (blocks,): its share, rounded, at least 1."""
        sizes = torch.full((self._number,), self._n, device=self._layer.alive.device, dtype=torch.int64)
        sizes[-1:] = self._columns - (self._number - 1) * self._n
        return ((2 * k * sizes + self._n) // (2 * self._n)).clamp(min=1)

    def count(self, mask: Tensor) -> Tensor:
        """Return how many True entries each block has, (rows, blocks)."""
        return _count(self.of(mask))

    def excess(self, mask: Tensor, k: int) -> Tensor:
        """Return how many True entries each block has above `limits`, (rows, blocks)."""
        return (self.count(mask) - self.limits(k)).clamp(min=0)


def lie_whole(layer: PrunableParameter, n: int) -> bool:
    """Return whether each block of n inputs that lies on this rank is all here.

    Example:
        >>> from torch import nn
        >>> from synaptic_pruning.core import Synapses
        >>> lie_whole(Synapses(nn.Linear(5, 1)).layers[0], 4)
        True
    """
    shard, groups = layer.shard, layer.transposed_groups
    if shard is None or len(shard.shape) < 2:
        return True
    places, width = torch.zeros(1, dtype=torch.int64, device="cpu"), 1  # of this rank's inputs in a row
    for dim, (indices, size) in enumerate(zip(shard.indices, shard.shape, strict=True)):
        if dim != (1 if groups else 0):
            places = (places[:, None] * size + indices.cpu()).flatten()
            width *= size
    if len(places) == width:
        return True
    if groups > 1 or bool((places.diff() <= 0).any()):
        return False
    sizes = (width - torch.arange(0, width, n, device="cpu")).clamp(max=n)
    here = (places // n).bincount(minlength=len(sizes))
    return bool(((here == 0) | (here == sizes)).all())


def smallest_in_blocks(
    scores: Sequence[LazyScores], blocks: Sequence[Blocks], counts: Sequence[Tensor]
) -> list[Tensor]:
    """Mark so many of the smallest entries in every block: exactly ``counts``, ties taken in order of position.

    Of sharded tensors every rank must call it, and whole blocks lie on a rank.

    Args:
        scores: The scores of each tensor; entries that are not alive take no part.
        blocks: The blocks of each tensor.
        counts: How many to mark in each block, (rows, blocks), from 0 to the number of entries that take part.

    Returns:
        For each tensor a bool tensor of its weight's shape, True at the marked entries.

    Raises:
        ValueError: An entry is NaN (its tensor is named).

    Example:
        >>> from torch import nn
        >>> from synaptic_pruning.core import Synapses
        >>> blocks = Blocks(Synapses(nn.Linear(5, 1)).layers[0], 4)
        >>> scores = LazyScores.of(torch.tensor([[5.0, 1.0, 2.0, 1.0, 7.0]]))
        >>> smallest_in_blocks([scores], [blocks], [torch.tensor([[2, 0]])])
        [tensor([[False,  True, False,  True, False]])]
    """
    values = [one.read(0, one.size).to(one.wide) for one in scores]
    found = torch.tensor([[_holds_nan(v, one.alive)] for v, one in zip(values, scores, strict=True)], device="cpu")
    stop_at_nan(scores, total(found.to(torch.int64), [one.shard for one in scores])[:, 0].tolist())
    marked = []
    for value, one, block, count in zip(values, scores, blocks, counts, strict=True):
        alive = torch.ones_like(value, dtype=torch.bool) if one.alive is None else one.alive
        parts = [block.of(flat.view(block.shape)) for flat in (value, alive)]
        step = max(1, _CHUNK // max(1, parts[0][:1].numel()))
        pieces = zip(*(torch.split(part, step) for part in (*parts, count)), strict=True)
        marked.append(block.entries(torch.cat([_smallest(*piece) for piece in pieces])))
    return marked


def _holds_nan(values: Tensor, alive: Tensor | None) -> bool:
    try:
        refuse_nan(values, alive)
    except FoundNaN:
        return True
    return False


def _smallest(values: Tensor, alive: Tensor, counts: Tensor) -> Tensor:
    """Mark ``counts`` (...) of the smallest values (..., n) among those alive (..., n), of equal ones the first."""
    most = int(counts.max()) if counts.numel() else 0
    if most == 0:
        return torch.zeros_like(alive)
    if torch.equal(counts, _count(alive)):
        return alive
    values = torch.where(alive, values, float("inf"))
    smallest = values.topk(most, largest=False).values
    last = smallest.gather(-1, (counts - 1).clamp(min=0)[..., None])
    below, equal = values < last, (values == last) & alive
    ties = counts - _count(below)
    if int(ties.sum()) < int(equal.count_nonzero()):
        equal &= equal.cumsum(-1, dtype=torch.int32) <= ties[..., None].to(torch.int32)
    return below | equal


def _count(marks: Tensor) -> Tensor:
    """Return how many of the marks of each block (..., n) are True: int64, (...)."""
    return marks.sum(-1, dtype=torch.int32).to(torch.int64)  # in 64 bits each mark would take eight bytes
