"""The k smallest of few numbers in one buffer: a sample tells about where they end, and only those are ranked.

Several times faster than finding the k-th digit by digit, as `threshold` does with what is large or not all here.
"""

import torch
from torch import Tensor

from synaptic_pruning.core.topk.float_keys import FoundNaN, refuse_nan

_SAMPLE = 1 << 11


def lowest_of_few(values: Tensor, k: int, alive: Tensor | None = None) -> Tensor | None:
    """Mark the k smallest that are alive, ties by position; None where one is NaN or fewer are alive.

    Args:
        values: Float32 or float64, shape (n,).
        k: From 1 to n.
        alive: Which take part; None when all do.

    Example:
        >>> lowest_of_few(torch.tensor([5.0, 1.0, 3.0, 1.0, 1.0]), k=2)
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
    places = _smallest(found, k)
    return torch.zeros_like(values, dtype=torch.bool).index_fill_(0, places if part is None else part[places], True)


def _smallest(values: Tensor, k: int) -> Tensor:
    """Return the places of the k smallest numbers, in order; of equal ones the first."""
    step = max(1, len(values) // _SAMPLE)
    # Five standard deviations above what is expected, so that hardly ever too few come into question.
    rank = int(k / step + 5 * (k / step) ** 0.5) + 1
    places = None
    if step > 1 and rank < (len(values) + step - 1) // step:
        places = (values <= values[::step].kthvalue(rank).values).nonzero().squeeze(1)
        places = places if len(places) >= k else None
    found = values if places is None else values[places]
    last = found.kthvalue(k).values
    taken = found < last
    ties = k - int(taken.count_nonzero())
    taken[(found == last).nonzero().squeeze(1)[:ties]] = True
    taken = taken.nonzero().squeeze(1)
    return taken if places is None else places[taken]
