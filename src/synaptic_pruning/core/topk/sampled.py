"""Select the k smallest of up to 2²⁰ values: a strided sample bounds the k-th, and only values below it are ranked."""

import torch
from torch import Tensor

from synaptic_pruning.core.topk.float_keys import FoundNaN, refuse_nan

_SAMPLE = 1 << 11


def smallest_k_sampled(values: Tensor, k: int, alive: Tensor | None = None) -> Tensor | None:
    """Mark the k smallest that take part, ties by position; None where one is NaN or fewer take part.

    Args:
        values: Float32 or float64, shape (n,).
        k: From 1 to n.
        alive: Bool, shape (n,), True where an entry takes part; None when all do.

    Example:
        >>> smallest_k_sampled(torch.tensor([5.0, 1.0, 3.0, 1.0, 1.0]), k=2)
        tensor([False,  True, False,  True, False])
    """
    # Only those that take part are ranked: in a sparse layer few of all are alive.
    part = None if alive is None else alive.nonzero().squeeze(1)
    found = values if part is None else values[part]
    if k > len(found):
        return None
    try:
        refuse_nan(found, None)
    except FoundNaN:
        return None
    positions = _smallest(found, k)
    return torch.zeros_like(values, dtype=torch.bool).index_fill_(
        0, positions if part is None else part[positions], True
    )


def _smallest(values: Tensor, k: int) -> Tensor:
    """Return the positions of the k smallest numbers, in order; of equal ones the first."""
    step = max(1, len(values) // _SAMPLE)
    # Five standard deviations above what is expected, so that hardly ever too few values pass.
    rank = int(k / step + 5 * (k / step) ** 0.5) + 1
    positions = None
    if step > 1 and rank < (len(values) + step - 1) // step:
        positions = (values <= values[::step].kthvalue(rank).values).nonzero().squeeze(1)
        positions = positions if len(positions) >= k else None
    found = values if positions is None else values[positions]
    last = found.kthvalue(k).values
    taken = found < last
    ties = k - int(taken.count_nonzero())
    taken[(found == last).nonzero().squeeze(1)[:ties]] = True
    taken = taken.nonzero().squeeze(1)
    return taken if positions is None else positions[taken]
