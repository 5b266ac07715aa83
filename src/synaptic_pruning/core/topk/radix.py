"""Radix select: find the k-th smallest key over many tensors, digit by digit, from histograms.

Floats are read as integers of the same order. Each pass counts one digit in chunks, so memory stays at a few
megabytes whatever the size of the network. Ranks that hold shards of the same tensors add up their histograms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from synaptic_pruning.core.sharding import total
from synaptic_pruning.core.topk.float_keys import FoundNaN, refuse_nan, to_ordered_int
from synaptic_pruning.core.topk.lazy_scores import LazyScores, stop_at_nan

_CHUNK = 1 << 18  # small enough for the second-level cache, large enough against the cost of a call
_CHUNK_ACCELERATOR = 1 << 24
_DIGIT = 11
_POISON = -(1 << 40)  # a count that stays negative whatever the other ranks add


class OrderedKeys:
    """One tensor's scores as integers of the same order, chunk by chunk; few of them are kept between passes."""

    def __init__(self, scores: LazyScores, wide: torch.dtype, keep: bool) -> None:
        self.scores, self.wide = scores, wide
        self.size, self.device = scores.size, scores.device
        self.bits = torch.finfo(wide).bits
        self._kept: list[Tensor] | None = [] if keep else None
        self._checked = 0  # up to there no entry is NaN

    @cached_property
    def excluded(self) -> int:
        """Entries that take no part."""
        return 0 if self.scores.alive is None else self.size - int(self.scores.alive.count_nonzero())

    def chunks(self) -> Iterator[Tensor]:
        """Yield the keys of consecutive entries."""
        if self._kept:
            yield from self._kept
            return
        step = _CHUNK if self.device.type == "cpu" else _CHUNK_ACCELERATOR
        for start in range(0, self.size, step):
            chunk = self._read(start, min(start + step, self.size))
            if self._kept is not None:
                self._kept.append(chunk)
            yield chunk

    def _read(self, start: int, stop: int) -> Tensor:
        values = self.scores.read(start, stop).to(self.wide, copy=True)
        alive = None if self.scores.alive is None else self.scores.alive[start:stop]
        if start >= self._checked:
            refuse_nan(values, alive)
            self._checked = stop
        return to_ordered_int(values, alive)


@dataclass(frozen=True)
class KthKey:
    """The k-th smallest key: all entries below ``key`` are selected, and some of those equal to it."""

    key: int
    below: list[int]  # of each tensor, over all ranks
    equal: list[int]  # entries equal to the key, of each tensor, over all ranks
    ties: list[int]  # how many of them to take

    def selected(self) -> list[int]:
        """Return how many entries of each tensor are selected."""
        return [below + ties for below, ties in zip(self.below, self.ties, strict=True)]


def find_kth(keys: Sequence[OrderedKeys], k: int) -> KthKey:
    """Return the k-th smallest key of all tensors; every rank that holds parts of them must call it.

    Raises:
        ValueError: k is not between 1 and the number of entries, or an entry is NaN.
    """
    bits = keys[0].bits
    shift, prefix, rank = bits, 0, k  # rank: what k is among the entries that share the digits found so far
    below = torch.zeros(len(keys), dtype=torch.int64, device="cpu")
    equal = below
    while shift > 0:
        width = min(_DIGIT, shift)
        counts = torch.stack([_count_digits(key, shift, width, prefix) for key in keys])
        histogram = total(counts, [key.scores.shard for key in keys])
        stop_at_nan([key.scores for key in keys], (histogram[:, 0] < 0).tolist())
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
    return KthKey(prefix, below.tolist(), equal.tolist(), ties.tolist())


def _count_digits(keys: OrderedKeys, shift: int, width: int, prefix: int) -> Tensor:
    """Return the histogram of one digit over the entries that take part and whose higher digits are ``prefix``."""
    size = 1 << width
    first = shift == keys.bits
    counts = torch.zeros(size, dtype=torch.int64, device=keys.device)
    try:
        for chunk in keys.chunks():
            if first:
                digits = (chunk >> (shift - width)) + (size >> 1)
            else:
                digits = (chunk[(chunk >> shift) == prefix] >> (shift - width)) & (size - 1)
            counts += torch.bincount(digits, minlength=size)
    except FoundNaN:
        return torch.full((size,), _POISON, device="cpu")
    if first:
        counts[-1] -= keys.excluded  # in later digits they lie above every prefix
    return counts.cpu()


def mark_selected(keys: OrderedKeys, marked: Tensor, kth: KthKey, row: int) -> None:
    """Set True in ``marked`` (flat, bool) the selected entries of one tensor, which ``kth`` counted in that row."""
    ties, shard = kth.ties[row], keys.scores.shard
    shared = shard is not None and 0 < ties < kth.equal[row]
    last = _place_of_tie(keys, kth.key, ties) if shared else -1
    start = 0
    for chunk in keys.chunks():
        hit = torch.lt(chunk, kth.key, out=marked[start : start + len(chunk)])
        if ties > 0:
            equal = (chunk == kth.key).nonzero().squeeze(1)
            if shared:
                assert shard is not None
                equal = equal[shard.positions(start + equal) <= last]
            elif shard is None:
                equal = equal[:ties]
                ties -= equal.numel()
            hit[equal] = True
        start += len(chunk)


def _place_of_tie(keys: OrderedKeys, key: int, number: int) -> int:
    """Find the position in the whole tensor of the number-th entry equal to the key, digit by digit over all ranks."""
    shard = keys.scores.shard
    assert shard is not None
    size, place = 1 << _DIGIT, 0
    shift = -(-shard.shape.numel().bit_length() // _DIGIT) * _DIGIT
    while shift > 0:
        counts = torch.zeros(size, dtype=torch.int64, device=keys.device)
        start = 0
        for chunk in keys.chunks():
            positions = shard.positions(start + (chunk == key).nonzero().squeeze(1))
            here = positions[(positions >> shift) == place]
            counts += torch.bincount((here >> (shift - _DIGIT)) & (size - 1), minlength=size)
            start += len(chunk)
        sums = total(counts.cpu()[None], [shard])[0].cumsum(0)
        digit = int(torch.searchsorted(sums, number))
        number -= int(sums[digit - 1]) if digit > 0 else 0
        place = (place << _DIGIT) | digit
        shift -= _DIGIT
    return place
