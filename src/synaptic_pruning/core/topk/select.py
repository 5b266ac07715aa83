"""Select the k smallest scores over many tensors exactly, without concatenating or sorting them.

Few values in one place take the fast path of `sampled`; all others, shards included, the radix select of `radix`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from synaptic_pruning.core.sharding import count_true
from synaptic_pruning.core.topk.float_keys import to_float
from synaptic_pruning.core.topk.lazy_scores import LazyScores
from synaptic_pruning.core.topk.radix import OrderedKeys, find_kth, mark_selected
from synaptic_pruning.core.topk.sampled import smallest_k_sampled

_FEW = 1 << 20
"""Up to so many entries the keys are kept between passes, in 4 MB."""


def kth_smallest(tensors: Sequence[Tensor | LazyScores], k: int) -> float:
    """Return the k-th smallest entry over all tensors together, exactly.

    Where tensors are sharded, every rank must call it, and each gets the same answer.

    Args:
        tensors: Tensors of any shape, of float16, bfloat16, float32 or float64 (mixed too), on any device.
        k: Rank counted from 1 to the number of entries, over all ranks.

    Raises:
        ValueError: k is outside that range, or an entry is NaN (its tensor is named).

    Example:
        >>> kth_smallest([torch.tensor([5.0, 1.0]), torch.tensor([[3.0], [1.0]])], k=3)
        3.0
    """
    keys = _ordered_keys(tensors)
    return to_float(find_kth(keys, k).key, keys[0].wide)


def smallest_k(tensors: Sequence[Tensor | LazyScores], k: int, *, most: Sequence[int] | None = None) -> list[Tensor]:
    """Mark the k smallest entries over all tensors together: exactly k, ties taken in order of position.

    Position means the tensor's place in the list, then the place in the flat, whole tensor, however it is sharded.
    So several ranks together mark what one would.

    Args:
        tensors: As for `kth_smallest`; entries of `LazyScores` that are not alive take no part.
        k: How many to mark, from 0 to the number of entries that take part, over all ranks.
        most: At most this many from each tensor (over all ranks); what one may not give, the others do.

    Returns:
        A flat bool tensor for each tensor (of this rank's part), True at the marked entries, on its device.

    Raises:
        ValueError: k is outside that range or more than ``most`` allows, or an entry is NaN.

    Example:
        >>> smallest_k([torch.tensor([5.0, 1.0, 1.0]), torch.tensor([1.0, 0.5])], k=3)
        [tensor([False,  True,  True]), tensor([False,  True])]
    """
    keys = _ordered_keys(tensors)
    if most is not None and k > sum(most):
        raise ValueError(f"k={k} entries are to be marked but most= allows {sum(most)} in all; lower k or raise most")
    found = _select_sampled(keys, k, most)
    if found is not None:
        return found
    marked = [torch.zeros(key.size, dtype=torch.bool, device=key.device) for key in keys]
    free = list(range(len(keys)))
    while k > 0 and free:
        kth = find_kth([keys[i] for i in free], k)
        full = [] if most is None else [i for i, taken in zip(free, kth.selected(), strict=True) if taken > most[i]]
        if not full:
            for row, i in enumerate(free):
                mark_selected(keys[i], marked[i], kth, row)
            break
        assert most is not None
        for i in full:  # such a tensor gives all it may, and the rest is selected among the others
            if most[i] > 0:
                mark_selected(keys[i], marked[i], find_kth([keys[i]], most[i]), 0)
            k -= most[i]
        free = [i for i in free if i not in full]
    return marked


def _ordered_keys(tensors: Sequence[Tensor | LazyScores]) -> list[OrderedKeys]:
    """Take scores or plain tensors; the keys are of the dtype that holds all of them exactly."""
    scores = [t if isinstance(t, LazyScores) else LazyScores.of(t, f"tensor {i}") for i, t in enumerate(tensors)]
    if not scores:
        raise ValueError("tensors=[] holds nothing to rank; give at least one tensor")
    wide = torch.float64 if torch.float64 in [source.wide for source in scores] else torch.float32
    few = sum(source.size for source in scores) <= _FEW
    return [OrderedKeys(source, wide, few) for source in scores]


def _select_sampled(keys: Sequence[OrderedKeys], k: int, most: Sequence[int] | None) -> list[Tensor] | None:
    """Return what `smallest_k` does where few entries are all here; None where ``most`` binds or an entry is NaN."""
    sizes, device = [key.size for key in keys], keys[0].device
    if any(key.scores.shard is not None or key.device != device for key in keys) or not 0 < k <= sum(sizes) <= _FEW:
        return None
    values = torch.cat([key.scores.read(0, key.size).to(key.wide) for key in keys])
    alive = None
    if any(key.scores.alive is not None for key in keys):
        every = torch.ones(max(sizes), dtype=torch.bool, device=device)
        alive = torch.cat([every[: key.size] if key.scores.alive is None else key.scores.alive for key in keys])
    marked = smallest_k_sampled(values, k, alive)
    if marked is None:
        return None
    parts = list(torch.split(marked, sizes))
    if most is not None and any(n > limit for n, limit in zip(count_true(parts), most, strict=True)):
        return None
    return parts
