"""The exact k-th smallest score over many tensors: streamed, sharded, never concatenated, never sorted.

Floats are read as integers that sort the same way, and the k-th smallest integer is found digit by digit (a radix
select). Each pass counts one digit in chunks, so memory stays at a few megabytes whatever the size of the network,
and ranks that hold shards of the same tensors only ever add up their counts: no weight leaves its rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.shards import Shard, local, total

_CHUNK = 1 << 18  # small enough for the second-level cache, large enough to hide Python's overhead
_CHUNK_ACCELERATOR = 1 << 24
_DIGIT = 11
_POISON = -(1 << 40)  # a count that stays negative whatever the other ranks add


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


def kth_smallest(tensors: Sequence[Tensor | Scores], k: int) -> float:
    """Return the k-th smallest entry over all tensors together, exactly.

    Where tensors are cut into shards, every rank must call it, and each gets the same answer.

    Args:
        tensors: Tensors of any shape, of float16, bfloat16, float32 or float64 (mixed too), on any device.
        k: Rank counted from 1 to the number of entries, over all ranks.

    Raises:
        ValueError: k is outside that range, or an entry is NaN (its tensor is named).

    Example:
        >>> kth_smallest([torch.tensor([5.0, 1.0]), torch.tensor([[3.0], [1.0]])], k=3)
        3.0
    """
    scores = [_as_scores(tensor, number) for number, tensor in enumerate(tensors)]
    wide = _common_dtype(scores)
    return _value(_find(scores, k, wide).key, wide)


def lowest(
    tensors: Sequence[Tensor | Scores],
    k: int,
    *,
    most: Sequence[int] | None = None,
) -> list[Tensor]:
    """Mark the k smallest entries over all tensors together: exactly k, ties taken in order of position.

    Position means the tensor's place in the list, then the place in the flat, whole tensor, however it is cut into
    shards; so several ranks together mark what one would.

    Args:
        tensors: As for `kth_smallest`; `Scores` whose ``alive`` is False somewhere leave those entries out.
        k: How many to mark, from 0 to the number of entries that take part, over all ranks.
        most: At most this many from each tensor (over all ranks); what one may not give, the others do.

    Returns:
        A flat bool tensor for each tensor (of this rank's part), True at the marked entries, on its device.

    Raises:
        ValueError: k is outside that range or more than ``most`` allows, or an entry is NaN.

    Example:
        >>> lowest([torch.tensor([5.0, 1.0, 1.0]), torch.tensor([1.0, 0.5])], k=3)
        [tensor([False,  True,  True]), tensor([False,  True])]
    """
    scores = [_as_scores(tensor, number) for number, tensor in enumerate(tensors)]
    wide = _common_dtype(scores)
    marked = [torch.zeros(s.size, dtype=torch.bool, device=s.device) for s in scores]
    if most is not None and k > sum(most):
        raise ValueError(f"k={k} entries are to be marked but most= allows {sum(most)} in all; lower k or raise most")
    free = list(range(len(scores)))
    while k > 0 and free:
        cut = _find([scores[i] for i in free], k, wide)
        full = [] if most is None else [i for i, taken in zip(free, cut.taken(), strict=True) if taken > most[i]]
        if not full:
            for row, i in enumerate(free):
                _mark(scores[i], marked[i], cut, row, wide)
            break
        assert most is not None
        for i in full:  # such a tensor gives its share, and the rest is looked for among the others
            if most[i] > 0:
                _mark(scores[i], marked[i], _find([scores[i]], most[i], wide), 0, wide)
            k -= most[i]
        free = [i for i in free if i not in full]
    return marked


class _FoundNaN(Exception):
    """A score is not a number."""


@dataclass(frozen=True)
class _Cut:
    """Where the k smallest end: all entries below ``key`` are among them, and some of those equal to it."""

    key: int
    below: list[int]  # of each tensor, over all ranks
    equal: list[int]  # entries equal to the key, of each tensor, over all ranks
    ties: list[int]  # how many of them to take

    def taken(self) -> list[int]:
        return [below + ties for below, ties in zip(self.below, self.ties, strict=True)]


def _find(scores: Sequence[Scores], k: int, wide: torch.dtype) -> _Cut:
    bits = torch.finfo(wide).bits
    shift, prefix, rank = bits, 0, k  # rank: what k is among the entries that share the digits found so far
    below = torch.zeros(len(scores), dtype=torch.int64)
    equal = below
    while shift > 0:
        width = min(_DIGIT, shift)
        histogram = _count_digits(scores, wide, shift, width, prefix, first=shift == bits)
        sums = histogram.sum(0).cumsum(0)
        if not 1 <= rank <= int(sums[-1]):
            raise ValueError(f"k={k} must be between 1 and the number of entries, {int(sums[-1])}")
        digit = int(torch.searchsorted(sums, rank))
        below += histogram[:, :digit].sum(1)
        rank -= int(sums[digit - 1]) if digit > 0 else 0
        equal = histogram[:, digit]
        # The first digit carries the sign: it was counted from the most negative up.
        signed = digit - (1 << (width - 1)) if shift == bits else digit
        prefix = (prefix << width) | signed if shift != bits else signed
        shift -= width
    before = torch.cat([equal.new_zeros(1), equal.cumsum(0)[:-1]])
    ties = (rank - before).clamp(min=0).minimum(equal)
    return _Cut(prefix, below.tolist(), equal.tolist(), ties.tolist())


def _count_digits(
    scores: Sequence[Scores], wide: torch.dtype, shift: int, width: int, prefix: int, *, first: bool
) -> Tensor:
    """Histogram of one digit for each tensor, over all ranks, of the entries whose higher digits are ``prefix``."""
    size = 1 << width
    histogram = torch.zeros(len(scores), size, dtype=torch.int64)
    for row, source in zip(histogram, scores, strict=True):
        counts = torch.zeros(size, dtype=torch.int64, device=source.device)
        try:
            for _, _, keys in _chunks(source, wide, check=first):
                if first:
                    digits = (keys >> (shift - width)) + (size >> 1)
                else:
                    digits = (keys[(keys >> shift) == prefix] >> (shift - width)) & (size - 1)
                counts += torch.bincount(digits, minlength=size)
        except _FoundNaN:
            counts.fill_(_POISON)
        row += counts.cpu()
    histogram = total(histogram, [source.shard for source in scores])
    for row, source in zip(histogram, scores, strict=True):
        if row[0] < 0:  # on every rank, so that none waits for one that has stopped
            raise ValueError(
                f"{source.name} holds NaN, so its entries cannot be ranked; look for the step where the loss became "
                "NaN (lower the learning rate or clip gradients)"
            )
    return histogram


def _chunks(source: Scores, wide: torch.dtype, *, check: bool = False) -> Iterator[tuple[int, Tensor | None, Tensor]]:
    """Yield (start, which entries take part, their sortable integer keys) of one piece after the other."""
    step = _CHUNK if source.device.type == "cpu" else _CHUNK_ACCELERATOR
    for start in range(0, source.size, step):
        stop = min(start + step, source.size)
        values = source.read(start, stop)
        alive = None if source.alive is None else source.alive[start:stop]
        if alive is not None:
            values = values[alive]
        values = values.to(wide) + 0.0  # makes one zero of the two
        # A sum is NaN if an entry is (or if infinities cancel), and far cheaper than a test of each.
        if check and bool(values.sum().isnan()) and bool(values.isnan().any()):
            raise _FoundNaN
        integer, top = (torch.int32, 31) if wide is torch.float32 else (torch.int64, 63)
        pattern = values.view(integer)
        # Negative floats sort backwards as integers: flip all their bits but the sign.
        yield start, alive, pattern ^ ((pattern >> top) & ((1 << top) - 1))


def _mark(source: Scores, marked: Tensor, cut: _Cut, row: int, wide: torch.dtype) -> None:
    """Mark what the cut takes of one tensor, which it counted in that row."""
    ties = cut.ties[row]
    last = None  # position in the whole tensor of the last tie to take, where ranks share them
    if source.shard is not None and 0 < ties < cut.equal[row]:
        last = _place_of_tie(source, source.shard, cut.key, ties, wide)
    for start, alive, keys in _chunks(source, wide):
        hit = keys < cut.key
        if ties > 0:
            equal = (keys == cut.key).nonzero().squeeze(1)
            if last is not None:
                assert source.shard is not None
                equal = equal[source.shard.positions(_flat(start, alive, equal)) <= last]
            elif source.shard is None:
                equal = equal[:ties]
                ties -= equal.numel()
            hit[equal] = True
        stop = start + (hit.numel() if alive is None else alive.numel())
        if alive is None:
            marked[start:stop] = hit
        else:
            marked[start:stop][alive] = hit


def _place_of_tie(source: Scores, shard: Shard, key: int, number: int, wide: torch.dtype) -> int:
    """Find the position in the whole tensor of the number-th entry equal to the key, digit by digit over all ranks."""
    size, place = 1 << _DIGIT, 0
    shift = -(-shard.shape.numel().bit_length() // _DIGIT) * _DIGIT
    while shift > 0:
        counts = torch.zeros(size, dtype=torch.int64, device=source.device)
        for start, alive, keys in _chunks(source, wide):
            positions = shard.positions(_flat(start, alive, (keys == key).nonzero().squeeze(1)))
            here = positions[(positions >> shift) == place]
            counts += torch.bincount((here >> (shift - _DIGIT)) & (size - 1), minlength=size)
        sums = total(counts.cpu()[None], [shard])[0].cumsum(0)
        digit = int(torch.searchsorted(sums, number))
        number -= int(sums[digit - 1]) if digit > 0 else 0
        place = (place << _DIGIT) | digit
        shift -= _DIGIT
    return place


def _flat(start: int, alive: Tensor | None, entries: Tensor) -> Tensor:
    """Return the flat positions in this rank's tensor of entries of one piece, counted among those that take part."""
    return start + (entries if alive is None else alive.nonzero().squeeze(1)[entries])


def _as_scores(tensor: Tensor | Scores, number: int) -> Scores:
    return tensor if isinstance(tensor, Scores) else Scores.of(tensor, f"tensor {number}")


def _common_dtype(scores: Sequence[Scores]) -> torch.dtype:
    """The dtype that holds every score exactly: float32 holds both half precisions."""
    for source in scores:
        if source.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(
                f"{source.name} is of {source.dtype}; scores must be float16, bfloat16, float32 or float64"
            )
    return torch.float64 if any(source.dtype is torch.float64 for source in scores) else torch.float32


def _value(key: int, wide: torch.dtype) -> float:
    integer, top = (torch.int32, 31) if wide is torch.float32 else (torch.int64, 63)
    pattern = key if key >= 0 else key ^ ((1 << top) - 1)
    return torch.tensor(pattern, dtype=integer).view(wide).item()
