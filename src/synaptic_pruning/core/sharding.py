"""Layout of sharded parameters (DTensor): this rank's part, global positions, sums over ranks.

Every rank decides about its own part. Only counts are added up; no weight leaves its rank.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, eq=False)
class Shard:
    """The layout of one tensor that is sharded over several processes.

    Attributes:
        shape: Of the whole tensor.
        indices: For each dimension the positions in the whole that this rank holds, in order; there may be none.
        groups: The process groups along which the tensor is sharded; along any other the ranks hold replicas.
        device: The kind of device on which the groups communicate.
        wrap: Makes the DTensor of this layout from this rank's part.
    """

    shape: torch.Size
    indices: tuple[Tensor, ...]
    groups: tuple[dist.ProcessGroup, ...]
    device: str
    wrap: Callable[[Tensor], "DTensor"]

    @classmethod
    def of(cls, tensor: Tensor) -> "Shard | None":
        """Return the layout of a DTensor, None for any other tensor."""
        if not _is_dtensor(tensor):
            return None
        from torch.distributed.tensor import DTensor, Replicate

        assert isinstance(tensor, DTensor)
        mesh, placements, shape = tensor.device_mesh, tensor.placements, tensor.shape
        indices = []
        for dim, size in enumerate(shape):
            # Sharded like the tensor itself, the numbers of a dimension tell its positions, in strided shards too.
            numbers = torch.arange(size, device=local(tensor).device).view(
                [-1 if d == dim else 1 for d in range(len(shape))]
            )
            ways = [p if getattr(p, "dim", None) == dim else Replicate() for p in placements]
            whole = DTensor.from_local(numbers, mesh, [Replicate()] * mesh.ndim, run_check=False)
            indices.append(whole.redistribute(mesh, ways).to_local().flatten())
        groups = tuple(mesh.get_group(i) for i, p in enumerate(placements) if not p.is_replicate() and mesh.size(i) > 1)
        stride = torch.empty(shape, device="meta").stride()

        def wrap(part: Tensor) -> DTensor:
            return DTensor.from_local(part, mesh, placements, run_check=False, shape=shape, stride=stride)

        return cls(shape, tuple(indices), groups, mesh.device_type, wrap)

    def positions(self, flat: Tensor) -> Tensor:
        """Return the flat positions in the whole tensor of these flat positions in this rank's part."""
        found = torch.zeros_like(flat)
        stride = 1
        for places, size in zip(reversed(self.indices), reversed(self.shape), strict=True):
            found += places.to(flat.device)[flat % max(1, len(places))] * stride
            flat = flat // max(1, len(places))
            stride *= size
        return found

    def take(self, whole: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor."""
        for dim, places in enumerate(self.indices):
            whole = whole.index_select(dim, places.to(whole.device))
        return whole


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds, sharing its storage: all of it unless it is a DTensor."""
    if not _is_dtensor(tensor):
        return tensor
    if torch.is_grad_enabled():  # to turn it off takes longer than all the rest
        with torch.no_grad():
            return local(tensor)
    part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def local_like(tensor: Tensor, model: Tensor) -> Tensor:
    """Return this rank's part of a tensor, laid out as ``model`` is; a gradient may be laid out otherwise."""
    if _is_dtensor(tensor) and _is_dtensor(model) and _layout(tensor) != _layout(model):
        tensor = tensor.redistribute(*_layout(model))  # type: ignore[attr-defined]
    return local(tensor)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all ranks put together; every rank must call it."""
    return tensor.full_tensor() if _is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def gather(state: Any) -> Any:
    """Return nested dicts and lists with every DTensor in them made `whole`; every rank must call it."""
    if isinstance(state, dict):
        return {key: gather(value) for key, value in state.items()}
    if isinstance(state, list):
        return [gather(value) for value in state]
    return whole(state) if isinstance(state, Tensor) else state


def count_true(masks: Sequence[Tensor]) -> list[int]:
    """Return how many entries of each mask are True, on this rank; a device is waited for once.

    Example:
        >>> count_true([torch.tensor([True, False]), torch.tensor([[True], [True]])])
        [1, 2]
    """
    counts = [mask.count_nonzero() for mask in masks]
    if len({count.device for count in counts}) == 1:
        return torch.stack(counts).tolist()
    return [int(count) for count in counts]


def total(counts: Tensor, shards: Sequence[Shard | None]) -> Tensor:
    """Add up over all ranks what each counted in its part; every rank must call it with the same layouts.

    Args:
        counts: Row i is about the tensor that is sharded as ``shards[i]``; on the CPU.
        shards: A layout for each row; rows of tensors that are not sharded stay as they are.
    """
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, shard in enumerate(shards):
        if shard is not None and shard.groups:
            rows.setdefault(tuple(group.group_name for group in shard.groups), []).append(row)
    counts = counts.clone()
    for some in rows.values():
        shard = shards[some[0]]
        assert shard is not None
        part = counts[some].to(shard.device)
        for group in shard.groups:
            dist.all_reduce(part, group=group)
        counts[some] = part.cpu()
    return counts


def _is_dtensor(tensor: Tensor) -> bool:
    # Importing it takes a second; where it was not imported there is none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _layout(tensor: Any) -> tuple[Any, Any]:
    return tensor.device_mesh, tensor.placements
