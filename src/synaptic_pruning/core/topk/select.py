"""The exact k-th smallest score over many tensors: streamed, sharded, never concatenated, never sorted.

Floats are read as integers that sort the same way, and the k-th smallest integer is found digit by digit (a radix
select). Each pass counts one digit in chunks, so memory stays at a few megabytes whatever the size of the network,
and ranks that hold shards of the same tensors only ever add up their counts: no weight leaves its rank.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from synaptic_pruning.core.sharding import Shard, count_true
from synaptic_pruning.core.topk.float_keys import as_float
from synaptic_pruning.core.topk.lazy_scores import Scores
from synaptic_pruning.core.topk.radix import Keys, find, mark
from synaptic_pruning.core.topk.sampled import lowest_of_few

_KEPT = 1 << 20  # keys of so few entries are kept between passes: 4 MB, and several times faster


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
    return as_float(find(keys, k).key, keys[0].wide)


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
        cut = find([keys[i] for i in free], k)
        full = [] if most is None else [i for i, taken in zip(free, cut.taken(), strict=True) if taken > most[i]]
        if not full:
            for row, i in enumerate(free):
                mark(keys[i], marked[i], cut, row)
            break
        assert most is not None
        for i in full:  # such a tensor gives its share, and the rest is looked for among the others
            if most[i] > 0:
                mark(keys[i], marked[i], find([keys[i]], most[i]), 0)
            k -= most[i]
        free = [i for i in free if i not in full]
    return marked


def _read(tensors: Sequence[Tensor | Scores], group: dist.ProcessGroup | None) -> list[Keys]:
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
    return [Keys(source, wide, few) for source in scores]


def _at_once(keys: Sequence[Keys], k: int, most: Sequence[int] | None) -> list[Tensor] | None:
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
