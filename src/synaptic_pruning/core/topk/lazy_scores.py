"""Scores of one tensor, computed chunk by chunk when read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synaptic_pruning.core.sharding import Shard, local


@dataclass(frozen=True)
class LazyScores:
    """LazyScores of one tensor's entries, computed chunk by chunk when they are read.

    Args:
        name: What error messages call it.
        size: Entries (on this rank).
        read: ``read(start, stop)`` gives the scores of the flat positions start to stop-1, shape (stop - start,).
        dtype: Floating dtype of what ``read`` returns.
        device: Where ``read`` returns it.
        alive: Flat bool tensor, True where an entry takes part; None when all do.
        shard: Where these entries lie in a tensor that several ranks share; None when all of it is here.

    Example:
        >>> scores = LazyScores.of(torch.tensor([[3.0, 1.0], [2.0, 5.0]]), "layer")
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

    @property
    def wide(self) -> torch.dtype:
        """The dtype in which they are ranked: float64 for scores of that, else float32.

        Raises:
            ValueError: They are not of a floating dtype.
        """
        if self.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"{self.name} is of {self.dtype}; scores must be float16, bfloat16, float32 or float64")
        return torch.float64 if self.dtype is torch.float64 else torch.float32

    @classmethod
    def of(
        cls, tensor: Tensor, name: str = "scores", alive: Tensor | None = None, shard: Shard | None = None
    ) -> "LazyScores":
        """Take the entries of a tensor, of any shape, as the scores themselves; of a DTensor, this rank's part.

        Args:
            tensor: The scores; of a tensor that several ranks share, a DTensor, or this rank's part and ``shard``.
            name: As for the class.
            alive: As for the class.
            shard: As for the class, where ``tensor`` is a plain one.
        """
        flat = local(tensor.detach()).reshape(-1)
        shard = Shard.of(tensor) if shard is None else shard
        return cls(name, flat.numel(), lambda start, stop: flat[start:stop], flat.dtype, flat.device, alive, shard)


def stop_at_nan(scores: Sequence[LazyScores], found: Sequence[int]) -> None:
    """Refuse scores that hold NaN; call it on every rank, so that none waits for the one that found it.

    Args:
        scores: Scores.
        found: For each of them whether it holds NaN on any rank: then not 0.

    Raises:
        ValueError: One of them does.
    """
    for source, nan in zip(scores, found, strict=True):
        if nan:
            raise ValueError(
                f"{source.name} holds NaN, so its entries cannot be ranked; look for the step where the loss became "
                "NaN (lower the learning rate or clip gradients)"
            )
