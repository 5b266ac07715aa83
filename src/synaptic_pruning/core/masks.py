"""One mask: packed to bits, widened to integers, and applied to tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

_SAME_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def zero_pruned_(tensors: Sequence[Tensor], masks: Sequence[Tensor], zero: int = 0) -> None:
    """Set the entries that are pruned to exactly zero, in place, whatever they held: infinity and NaN too.

    This is the one operation that zeroes pruned weights, their gradients and what an optimizer keeps of them.
    Call it under ``torch.no_grad()``.

    Args:
        tensors: Tensors, each of its mask's shape; floating point, or already viewed as integers of that width.
        masks: Bool tensors, True = alive; or all of them from `to_integers`, which is one call for all tensors.
        zero: What stands for zero, in tensors of quantised codes; bool masks only.

    Example:
        >>> weight = torch.tensor([1.0, float("nan"), 3.0])
        >>> zero_pruned_([weight], [torch.tensor([True, False, True])])
        >>> weight
        tensor([1., 0., 3.])
    """
    if not masks:
        return
    if masks[0].dtype is torch.bool:
        for tensor, mask in zip(tensors, masks, strict=True):
            tensor.masked_fill_(~mask.to(tensor.device), zero)
    else:
        # Bits times 0 or 1: exact for every value, and one call for all tensors of a small network.
        bits = [t if t.dtype is mask.dtype else t.view(mask.dtype) for t, mask in zip(tensors, masks, strict=True)]
        torch._foreach_mul_(bits, list(masks))


def to_integers(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return a mask as integers as wide as ``dtype``, 1 = alive, for `zero_pruned_`; None if there is no such integer.

    Example:
        >>> to_integers(torch.tensor([True, False]), torch.float32)
        tensor([1, 0], dtype=torch.int32)
    """
    integer = _SAME_WIDTH.get(dtype.itemsize)
    return None if integer is None else mask.to(integer)


def pack(mask: Tensor) -> Tensor:
    """Pack a bool tensor to uint8, eight entries a byte, first entry in the lowest bit.

    Example:
        >>> pack(torch.tensor([True, False, True, False, False, False, False, False, True]))
        tensor([5, 1], dtype=torch.uint8)
    """
    flat = mask.reshape(-1).to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    packed = torch.zeros(len(padded), dtype=torch.uint8, device=mask.device)
    for bit in range(8):
        packed |= padded[:, bit] << bit
    return packed


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the bool tensor of that shape that `pack` packed.

    Raises:
        ValueError: The number of bytes does not fit the shape.

    Example:
        >>> unpack(torch.tensor([5], dtype=torch.uint8), (3,))
        tensor([ True, False,  True])
    """
    size = torch.Size(shape).numel()
    if packed.dtype is not torch.uint8 or packed.numel() != (size + 7) // 8:
        raise ValueError(
            f"a packed mask of {packed.numel()} {packed.dtype} entries does not fit shape {tuple(shape)}, "
            f"which takes {(size + 7) // 8} bytes; the checkpoint is damaged"
        )
    bits = torch.stack([(packed >> bit) & 1 for bit in range(8)], dim=1)
    return bits.reshape(-1)[:size].reshape(tuple(shape)).bool()


def nonzero_pruned(weight: Tensor, alive: Tensor) -> Tensor:
    """Return True where a weight is not zero although its mask is False.

    Args:
        weight: Any shape.
        alive: Bool mask of the same shape, on any device.

    Example:
        >>> nonzero_pruned(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([False, False, True]))
        tensor([False,  True, False])
    """
    return (weight.detach() != 0) & ~alive.to(weight.device)
