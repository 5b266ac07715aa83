"""The exact k-th smallest score over many tensors: streamed, sharded, never concatenated, never sorted.

Floats are read as integers that sort the same way, and the k-th smallest integer is found digit by digit (a radix
select). Each pass counts one digit in chunks, so memory stays at a few megabytes whatever the size of the network,
and ranks that hold shards of the same tensors only ever add up their counts: no weight leaves its rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

_CHUNK = 1 << 18  # small enough for the second-level cache, large enough to hide Python's overhead
_CHUNK_ACCELERATOR = 1 << 24
_DIGIT = 11


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

    @classmethod
    def of(cls, tensor: Tensor, name: str = "scores", alive: Tensor | None = None) -> "Scores":
        """Take the entries of a tensor, of any shape, as the scores themselves."""
        flat = tensor.detach().reshape(-1)
        return cls(name, flat.numel(), lambda start, stop: flat[start:stop], flat.dtype, flat.device, alive)


def kth_smallest(tensors: Sequence[Tensor | Scores], k: int, *, group: dist.ProcessGroup | None = None) -> float:
    """Return the k-th smallest entry over all tensors together, exactly.

    Args:
        tensors: Tensors of any shape, of float16, bfloat16, float32 or float64 (mixed too), on any device.
        k: Rank counted from 1 to the number of entries, over all ranks of ``group``.
        group: The process group whose ranks each hold a part of the entries; only counts are exchanged.

    Raises:
        ValueError: k is outside that range, or an entry is NaN (its tensor is named).

    Example:
        >>> kth_smallest([torch.tensor([5.0, 1.0]), torch.tensor([[3.0], [1.0]])], k=3)
        3.0
    """
    scores = [_as_scores(tensor, number) for number, tensor in enumerate(tensors)]
    wide = _common_dtype(scores)
    return _value(_find(scores, k, wide, group).key, wide)


def lowest(
    tensors: Sequence[Tensor | Scores],
    k: int,
    *,
    most: Sequence[int] | None = None,
    group: dist.ProcessGroup | None = None,
) -> list[Tensor]:
    """Mark the k smallest entries over all tensors together: exactly k, ties taken in order of position.

    Position means the tensor's place in the list, then the rank in ``group``, then the place in the flat tensor.

    Args:
        tensors: As for `kth_smallest`; `Scores` whose ``alive`` is False somewhere leave those entries out.
        k: How many to mark, from 0 to the number of entries that take part, over all ranks.
        most: At most this many from each tensor (over all ranks); what one may not give, the others do.
        group: As for `kth_smallest`.

    Returns:
        A flat bool tensor for each tensor, True at the marked entries, on its device.

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
        cut = _find([scores[i] for i in free], k, wide, group)
        full = [] if most is None else [i for i, taken in zip(free, cut.taken(), strict=True) if taken > most[i]]
        if not full:
            for i, ties in zip(free, cut.ties_here, strict=True):
                _mark(scores[i], marked[i], cut.key, ties, wide)
            break
        assert most is not None
        for i in full:  # such a tensor gives its share, and the rest is looked for among the others
            if most[i] > 0:
                own = _find([scores[i]], most[i], wide, group)
                _mark(scores[i], marked[i], own.key, own.ties_here[0], wide)
            k -= most[i]
        free = [i for i in free if i not in full]
    return marked


@dataclass(frozen=True)
class _Cut:
    """Where the k smallest end: all entries below ``key`` are among them, and some of those equal to it."""

    key: int
    below: list[int]  # of each tensor, over all ranks
    ties: list[int]  # entries equal to the key to take, of each tensor, over all ranks
    ties_here: list[int]  # the same on this rank

    def taken(self) -> list[int]:
        return [below + ties for below, ties in zip(self.below, self.ties, strict=True)]


def _find(scores: Sequence[Scores], k: int, wide: torch.dtype, group: dist.ProcessGroup | None) -> _Cut:
    bits = torch.finfo(wide).bits
    shift, prefix, rank = bits, 0, k  # rank: what k is among the entries that share the digits found so far
    below = torch.zeros(len(scores), dtype=torch.int64)
    here = torch.zeros(len(scores), dtype=torch.int64)
    counts = here
    while shift > 0:
        width = min(_DIGIT, shift)
        local = _count_digits(scores, wide, shift, width, prefix, first=shift == bits)
        histogram = _all_reduce(local, scores, group)
        sums = histogram.sum(0).cumsum(0)
        if not 1 <= rank <= int(sums[-1]):
            raise ValueError(f"k={k} must be between 1 and the number of entries, {int(sums[-1])}")
        digit = int(torch.searchsorted(sums, rank))
        below += histogram[:, :digit].sum(1)
        rank -= int(sums[digit - 1]) if digit > 0 else 0
        counts, here = histogram[:, digit], local[:, digit]
        # The first digit carries the sign: it was counted from the most negative up.
        signed = digit - (1 << (width - 1)) if shift == bits else digit
        prefix = (prefix << width) | signed if shift != bits else signed
        shift -= width
    before = torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
    ties = (rank - before).clamp(min=0).minimum(counts)
    ties_here = (rank - before - _on_lower_ranks(here, scores, group)).clamp(min=0).minimum(here)
    return _Cut(prefix, below.tolist(), ties.tolist(), ties_here.tolist())


def _count_digits(
    scores: Sequence[Scores], wide: torch.dtype, shift: int, width: int, prefix: int, *, first: bool
) -> Tensor:
    """Histogram of one digit for each tensor, of the entries whose higher digits are ``prefix``."""
    size = 1 << width
    histogram = torch.zeros(len(scores), size, dtype=torch.int64)
    for row, source in zip(histogram, scores, strict=True):
        counts = torch.zeros(size, dtype=torch.int64, device=source.device)
        for _, _, keys in _chunks(source, wide, check=first):
            if first:
                digits = (keys >> (shift - width)) + (size >> 1)
            else:
                digits = (keys[(keys >> shift) == prefix] >> (shift - width)) & (size - 1)
            counts += torch.bincount(digits, minlength=size)
        row += counts.cpu()
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
            raise ValueError(
                f"{source.name} holds NaN, so its entries cannot be ranked; look for the step where the loss became "
                "NaN (lower the learning rate or clip gradients)"
            )
        integer, top = (torch.int32, 31) if wide is torch.float32 else (torch.int64, 63)
        pattern = values.view(integer)
        # Negative floats sort backwards as integers: flip all their bits but the sign.
        yield start, alive, pattern ^ ((pattern >> top) & ((1 << top) - 1))


def _mark(source: Scores, marked: Tensor, key: int, ties: int, wide: torch.dtype) -> None:
    for start, alive, keys in _chunks(source, wide):
        hit = keys < key
        if ties > 0:
            equal = (keys == key).nonzero().squeeze(1)[:ties]
            hit[equal] = True
            ties -= equal.numel()
        stop = start + (hit.numel() if alive is None else alive.numel())
        if alive is None:
            marked[start:stop] = hit
        else:
            marked[start:stop][alive] = hit


def _all_reduce(local: Tensor, scores: Sequence[Scores], group: dist.ProcessGroup | None) -> Tensor:
    if group is None:
        return local
    total = local.to(scores[0].device, copy=True)
    dist.all_reduce(total, group=group)
    return total.cpu()


def _on_lower_ranks(here: Tensor, scores: Sequence[Scores], group: dist.ProcessGroup | None) -> Tensor:
    if group is None:
        return torch.zeros_like(here)
    mine = here.to(scores[0].device)
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, mine, group=group)
    lower = parts[: dist.get_rank(group)]
    return torch.stack(lower).sum(0).cpu() if lower else torch.zeros_like(here)


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
