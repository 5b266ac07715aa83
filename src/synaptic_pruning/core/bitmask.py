"""Masks at one bit a weight."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
