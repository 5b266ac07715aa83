"""Map floats to integers of the same order, for radix select."""

import torch
from torch import Tensor


class FoundNaN(Exception):
    """A score is not a number."""


def refuse_nan(values: Tensor, alive: Tensor | None) -> None:
    """Stop at a NaN among the entries that take part.

    Raises:
        FoundNaN: There is one.
    """
    # A sum is NaN if an entry is (or if infinities cancel), and far cheaper than a test of each.
    if bool(values.sum().isnan()):
        nan = values.isnan() if alive is None else values.isnan() & alive
        if bool(nan.any()):
            raise FoundNaN


def to_ordered_int(values: Tensor, alive: Tensor | None = None) -> Tensor:
    """Turn float32 or float64 numbers, in place, into integers of the same order.

    Args:
        values: Shape (n,), n > 0, without NaN.
        alive: Where it is False the integer becomes the highest there is, above that of every number.

    Example:
        >>> to_ordered_int(torch.tensor([-0.0, 0.0, 1.0]), torch.tensor([True, True, False])).tolist()
        [0, 0, 2147483647]
    """
    values.add_(0.0)  # makes one zero of the two
    integer, sign = (torch.int32, 31) if values.dtype is torch.float32 else (torch.int64, 63)
    highest = (1 << sign) - 1
    keys = values.view(integer)
    if bool(keys.min() < 0):
        # Negative floats sort backwards as integers: flip all their bits but the sign.
        keys ^= (keys >> sign) & highest
    if alive is not None:
        # By arithmetic, not by branching on the mask: the highest integer where False, the lowest where True.
        least = alive.to(integer).sub_(1).bitwise_xor_(~highest)
        torch.maximum(keys, least, out=keys)
    return keys


def to_float(key: int, dtype: torch.dtype) -> float:
    """Return the number of that dtype whose ordered integer this is."""
    integer, sign = (torch.int32, 31) if dtype is torch.float32 else (torch.int64, 63)
    pattern = key if key >= 0 else key ^ ((1 << sign) - 1)
    return torch.tensor(pattern, dtype=integer, device="cpu").view(dtype).item()
