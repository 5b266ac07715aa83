"""The exact k-th smallest score over many tensors: streamed, sharded, never concatenated, never sorted.

Floats are read as integers that sort the same way, and the k-th smallest integer is found digit by digit (a radix
select). Each pass counts one digit in chunks, so memory stays at a few megabytes whatever the size of the network,
and ranks that hold shards of the same tensors only ever add up their counts: no weight leaves its rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from synaptic_pruning.few import lowest_of_few
from synaptic_pruning.keys import FoundNaN, as_float, as_integers, refuse_nan
from synaptic_pruning.shards import Shard, count_true, local, total

_CHUNK = 1 << 18  # small enough for the second-level cache, large enough to hide Python's overhead
_CHUNK_ACCELERATOR = 1 << 24
_DIGIT = 11
_POISON = -(1 << 40)  # a count that stays negative whatever the other ranks add
_KEPT = 1 << 20  # keys of so few entries are kept between passes: 4 MB, and several times faster


@dataclass(frozen=True)
class Scores:
    """Scores of one tensor's entries, computed piece by piece when they are read.

    Args:
        name: Said in errors.
        size: How many entries there are (on this rank).
        read: ``read(start, stop)`` gives the scores of the flat positions start to stop-1, shape (stop - start,).
        dtype: Floating dtype of what ``read`` returns.
        device: Where ``read`` returns it.
        alive: Flat bool tensor, True where an entry takes part; None when all do.
        shard: Where these entries lie in a tensor that several ranks share; None when all of it is here.

    Example:
        >>> scores = Scores.of(torch.tensor([[3.0, 1.0], [2.0, 5.0]]), "layer")
        >>> scores.read(1, 3)
        tensor([1., 2.])
    """

    name: str
    size: int
    read: Callable[[int, int], Tensor]
    dtype: torch.dtype
    device: torch.device
    alive: Tensor | None = None
    shard: Shard | None = None

    @classmethod
    def of(cls, tensor: Tensor, name: str = "scores", alive: Tensor | None = None) -> "Scores":
        """Take the entries of a tensor, of any shape, as the scores themselves; of a DTensor, this rank's part."""
        flat = local(tensor.detach()).reshape(-1)
        return cls(
            name, flat.numel(), lambda start, stop: flat[start:stop], flat.dtype, flat.device, alive, Shard.of(tensor)
        )


def kth_smallest(tensors: Sequence[Tensor | Scores], k: int, *, group: dist.ProcessGroup | None = None) -> float:
    """Return the k-th smallest entry over all tensors together, exactly.

    Where tensors are cut into shards, every rank must call it, and each gets the same answer.

    Args:
        tensors: Tensors of any shape, of float16, bfloat16, float32 or float64 (mixed too), on any device.
        k: Rank counted from 1 to the number of entries, over all ranks.
        group: The process group whose ranks each hold a part of every tensor that is no DTensor (those know their own);
            only counts are exchanged.

    Raises:
        ValueError: k is outside that range, or an entry is NaN (its tensor is named).

    Example:
        >>> kth_smallest([torch.tensor([5.0, 1.0]), torch.tensor([[3.0], [1.0]])], k=3)
        3.0
    """
    keys = _read(tensors, group)
    return as_float(_find(keys, k).key, keys[0].wide)


def lowest(
    tensors: Sequence[Tensor | Scores],
    k: int,
    *,
    most: Sequence[int] | None = None,
    group: dist.ProcessGroup | None = None,
) -> list[Tensor]:
    """Mark the k smallest entries over all tensors together: exactly k, ties taken in order of position.

    Position means the tensor's place in the list, then the place in the flat, whole tensor, however it is cut into
    shards; so several ranks together mark what one would. Of a plain tensor under ``group`` the parts follow each other
    in the order of the ranks.

    Args:
        tensors: As for `kth_smallest`; `Scores` whose ``alive`` is False somewhere leave those entries out.
        k: How many to mark, from 0 to the number of entries that take part, over all ranks.
        most: At most this many from each tensor (over all ranks); what one may not give, the others do.
        group: As for `kth_smallest`.

    Returns:
        A flat bool tensor for each tensor (of this rank's part), True at the marked entries, on its device.

    Raises:
        ValueError: k is outside that range or more than ``most`` allows, or an entry is NaN.

    Example:
        >>> lowest([torch.tensor([5.0, 1.0, 1.0]), torch.tensor([1.0, 0.5])], k=3)
        [tensor([False,  True,  True]), tensor([False,  True])]
    """
    keys = _read(tensors, group)
    if most is not None and k > sum(most):
        raise ValueError(f"k={k} entries are to be marked but most= allows {sum(most)} in all; lower k or raise most")
    found = _at_once(keys, k, most)
    if found is not None:
        return found
    marked = [torch.zeros(key.size, dtype=torch.bool, device=key.device) for key in keys]
    free = list(range(len(keys)))
    while k > 0 and free:
        cut = _find([keys[i] for i in free], k)
        full = [] if most is None else [i for i, taken in zip(free, cut.taken(), strict=True) if taken > most[i]]
        if not full:
            for row, i in enumerate(free):
                _mark(keys[i], marked[i], cut, row)
            break
        assert most is not None
        for i in full:  # such a tensor gives its share, and the rest is looked for among the others
            if most[i] > 0:
                _mark(keys[i], marked[i], _find([keys[i]], most[i]), 0)
            k -= most[i]
        free = [i for i in free if i not in full]
    return marked


class _Keys:
    """One tensor's scores as integers that sort the same way, piece by piece; few of them are kept between passes."""

    def __init__(self, scores: Scores, wide: torch.dtype, keep: bool) -> None:
        self.scores, self.wide = scores, wide
        self.size, self.device = scores.size, scores.device
        self.bits = torch.finfo(wide).bits
        self._kept: list[Tensor] | None = [] if keep else None
        self._checked = 0  # up to there no entry is NaN

    @cached_property
    def dead(self) -> int:
        """How many entries take no part."""
        return 0 if self.scores.alive is None else self.size - int(self.scores.alive.count_nonzero())

    def pieces(self) -> Iterator[Tensor]:
        """Yield the keys of consecutive entries."""
        if self._kept:
            yield from self._kept
            return
        step = _CHUNK if self.device.type == "cpu" else _CHUNK_ACCELERATOR
        for start in range(0, self.size, step):
            piece = self._read(start, min(start + step, self.size))
            if self._kept is not None:
                self._kept.append(piece)
            yield piece

    def _read(self, start: int, stop: int) -> Tensor:
        values = self.scores.read(start, stop).to(self.wide, copy=True)
        alive = None if self.scores.alive is None else self.scores.alive[start:stop]
        if start >= self._checked:
            refuse_nan(values, alive)
            self._checked = stop
        return as_integers(values, alive)


def _read(tensors: Sequence[Tensor | Scores], group: dist.ProcessGroup | None) -> list[_Keys]:
    """Take scores or plain tensors; the keys are of the dtype that holds all of them exactly."""
    scores = [t if isinstance(t, Scores) else Scores.of(t, f"tensor {i}") for i, t in enumerate(tensors)]
    if not scores:
        raise ValueError("tensors=[] holds nothing to rank; give at least one tensor")
    for source in scores:
        if source.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(
                f"{source.name} is of {source.dtype}; scores must be float16, bfloat16, float32 or float64"
            )
    if group is not None:
        scores = [s if s.shard else replace(s, shard=Shard.in_rank_order(s.size, s.device, group)) for s in scores]
    wide = torch.float64 if any(source.dtype is torch.float64 for source in scores) else torch.float32
    few = sum(source.size for source in scores) <= _KEPT
    return [_Keys(source, wide, few) for source in scores]


def _at_once(keys: Sequence[_Keys], k: int, most: Sequence[int] | None) -> list[Tensor] | None:
    """Return what `lowest` does where few entries are all here; None where a limit bites or something is wrong."""
    sizes, device = [key.size for key in keys], keys[0].device
    if any(key.scores.shard is not None or key.device != device for key in keys) or not 0 < k <= sum(sizes) <= _KEPT:
        return None
    values = torch.cat([key.scores.read(0, key.size).to(key.wide) for key in keys])
    alive = None
    if any(key.scores.alive is not None for key in keys):
        every = torch.ones(max(sizes), dtype=torch.bool, device=device)
        alive = torch.cat([every[: key.size] if key.scores.alive is None else key.scores.alive for key in keys])
    marked = lowest_of_few(values, k, alive)
    if marked is None:
        return None
    parts = list(torch.split(marked, sizes))
    if most is not None and any(n > limit for n, limit in zip(count_true(parts), most, strict=True)):
        return None
    return parts


@dataclass(frozen=True)
class _Cut:
    """Where the k smallest end: all entries below ``key`` are among them, and some of those equal to it."""

    key: int
    below: list[int]  # of each tensor, over all ranks
    equal: list[int]  # entries equal to the key, of each tensor, over all ranks
    ties: list[int]  # how many of them to take

    def taken(self) -> list[int]:
        return [below + ties for below, ties in zip(self.below, self.ties, strict=True)]


def _find(keys: Sequence[_Keys], k: int) -> _Cut:
    bits = keys[0].bits
    shift, prefix, rank = bits, 0, k  # rank: what k is among the entries that share the digits found so far
    below = torch.zeros(len(keys), dtype=torch.int64)
    equal = below
    while shift > 0:
        width = min(_DIGIT, shift)
        counts = torch.stack([_count_digits(key, shift, width, prefix) for key in keys])
        histogram = total(counts, [key.scores.shard for key in keys])
        _stop_at_nan(histogram, keys)
        sums = histogram.sum(0).cumsum(0)
        if not 1 <= rank <= int(sums[-1]):
            raise ValueError(f"k={k} must be between 1 and the number of entries, {int(sums[-1])}")
        digit = int(torch.searchsorted(sums, rank))
        below += histogram[:, :digit].sum(1)
        rank -= int(sums[digit - 1]) if digit > 0 else 0
        equal = histogram[:, digit]
        # The first digit carries the sign: it was counted from the most negative up.
        prefix = digit - (1 << (width - 1)) if shift == bits else (prefix << width) | digit
        shift -= width
    before = torch.cat([equal.new_zeros(1), equal.cumsum(0)[:-1]])
    ties = (rank - before).clamp(min=0).minimum(equal)
    return _Cut(prefix, below.tolist(), equal.tolist(), ties.tolist())


def _count_digits(keys: _Keys, shift: int, width: int, prefix: int) -> Tensor:
    """Return the histogram of one digit over the entries whose higher digits are ``prefix``; the dead count nowhere."""
    size = 1 << width
    first = shift == keys.bits
    counts = torch.zeros(size, dtype=torch.int64, device=keys.device)
    try:
        for piece in keys.pieces():
            if first:
                digits = (piece >> (shift - width)) + (size >> 1)
            else:
                digits = (piece[(piece >> shift) == prefix] >> (shift - width)) & (size - 1)
            counts += torch.bincount(digits, minlength=size)
    except FoundNaN:
        return torch.full((size,), _POISON)
    if first:
        counts[-1] -= keys.dead  # later on they can only lie above whatever is looked for
    return counts.cpu()


def _stop_at_nan(histogram: Tensor, keys: Sequence[_Keys]) -> None:
    """Stop on every rank, so that none waits for the one that found it."""
    for key, first in zip(keys, histogram[:, 0].tolist(), strict=True):
        if first < 0:
            raise ValueError(
                f"{key.scores.name} holds NaN, so its entries cannot be ranked; look for the step where the loss "
                "became NaN (lower the learning rate or clip gradients)"
            )


def _mark(keys: _Keys, marked: Tensor, cut: _Cut, row: int) -> None:
    """Mark what the cut takes of one tensor, which it counted in that row."""
    ties, shard = cut.ties[row], keys.scores.shard
    shared = shard is not None and 0 < ties < cut.equal[row]
    last = _place_of_tie(keys, cut.key, ties) if shared else -1
    start = 0
    for piece in keys.pieces():
        hit = torch.lt(piece, cut.key, out=marked[start : start + len(piece)])
        if ties > 0:
            equal = (piece == cut.key).nonzero().squeeze(1)
            if shared:
                assert shard is not None
                equal = equal[shard.positions(start + equal) <= last]
            elif shard is None:
                equal = equal[:ties]
                ties -= equal.numel()
            hit[equal] = True
        start += len(piece)


def _place_of_tie(keys: _Keys, key: int, number: int) -> int:
    """Find the position in the whole tensor of the number-th entry equal to the key, digit by digit over all ranks."""
    shard = keys.scores.shard
    assert shard is not None
    size, place = 1 << _DIGIT, 0
    shift = -(-shard.shape.numel().bit_length() // _DIGIT) * _DIGIT
    while shift > 0:
        counts = torch.zeros(size, dtype=torch.int64, device=keys.device)
        start = 0
        for piece in keys.pieces():
            positions = shard.positions(start + (piece == key).nonzero().squeeze(1))
            here = positions[(positions >> shift) == place]
            counts += torch.bincount((here >> (shift - _DIGIT)) & (size - 1), minlength=size)
            start += len(piece)
        sums = total(counts.cpu()[None], [shard])[0].cumsum(0)
        digit = int(torch.searchsorted(sums, number))
        number -= int(sums[digit - 1]) if digit > 0 else 0
        place = (place << _DIGIT) | digit
        shift -= _DIGIT
    return place
