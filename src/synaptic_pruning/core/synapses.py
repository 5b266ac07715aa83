"""All prunable parameters of a network with their masks.

Masks live here, beside the model: its modules, parameter objects, names and ``state_dict`` stay as they are.
They leave the process only as exact zeros in the weights, and in the pruner's own ``state_dict``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core.prunable import choose_parameters, unwrap
from synaptic_pruning.core.sharding import count_true, total


class Synapses:
    """The prunable parameters of a model with a mask for each.

    By default every weight with two or more dimensions in Linear, Conv, RNN/LSTM/GRU (cells too), MultiheadAttention
    and the Conv1D of transformers that requires a gradient and is not shared with an embedding. Under ``spectral_norm``
    it is the tensor that the weight is made from. A parameter used in several places counts once.

    Args:
        model: The network; wrappers of ``torch.compile`` and DistributedDataParallel are seen through.
        include: Name patterns (``*`` and ``?``): take exactly the parameters that match one, whatever they are.
        exclude: Name patterns: leave out the parameters that match one.
        biases: Take the biases of those layers too, where ``include`` is not given.

    Raises:
        ValueError: A pattern matches nothing, a weight is made by a parametrization that keeps no zeros
            (``weight_norm``), or nothing is left to prune.

    Attributes:
        layers: The prunable parameters with their masks.
        total: Number of prunable weights.
        others: Names and sizes of all other weights of two or more dimensions; the largest first.
        unknown: Those of them in layers of no known type, where nobody has left them out.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> synapses = Synapses(net)
        >>> [layer.name for layer in synapses.layers], synapses.total
        (['0.weight', '2.weight'], 18)
    """

    def __init__(
        self,
        model: nn.Module,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        *,
        biases: bool = False,
    ) -> None:
        self.layers, self.others, self.unknown = choose_parameters(unwrap(model), include, exclude, biases)
        self.total = sum(layer.count for layer in self.layers)

    @property
    def count(self) -> int:
        """Weights that are alive."""
        return sum(layer.count for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that are pruned, in [0, 1]."""
        return 1 - self.count / self.total

    @property
    def sharded(self) -> str:
        """The name of a sharded parameter; empty where there is none."""
        return next((layer.name for layer in self.layers if layer.shard is not None), "")

    def set_masks(self, masks: Iterable[Tensor], counts: Sequence[int] | None = None) -> None:
        """Replace the masks: from now on exactly the entries that are True are alive.

        Args:
            masks: For each layer a bool tensor of the shape of its ``weight``; the same object means "unchanged".
            counts: Entries of each that are True, over all ranks, where that is known already.
        """
        known = [None] * len(self.layers) if counts is None else counts
        for layer, mask, count in zip(self.layers, list(masks), known, strict=True):
            if mask is not layer.alive:
                layer.set_mask(mask, count)

    def masks_without(self, pruned: Sequence[Tensor]) -> list[Tensor]:
        """Return the masks that are left when more entries are pruned; nothing is changed.

        Args:
            pruned: For each layer a flat bool tensor, True where a weight is to be pruned.
        """
        return [
            torch.logical_and(layer.alive, ~marked.view_as(layer.alive))
            for layer, marked in zip(self.layers, pruned, strict=True)
        ]

    def count_true(self, *marks: Sequence[Tensor]) -> list[list[int]]:
        """Count the True entries of each layer in each of these lists of marks, over all ranks.

        Args:
            marks: Lists of a bool tensor a layer, each of the shape of its ``weight``.

        Returns:
            For each list, a count a layer.
        """
        found = total(
            torch.tensor(count_true([mark for some in marks for mark in some]), device="cpu"),
            [layer.shard for layer in self.layers] * len(marks),
        )
        return found.view(len(marks), -1).tolist()

    def sync_device(self) -> None:
        """Move every mask to where its weights are, should the network have been moved since."""
        for layer in self.layers:
            if layer.alive.device != layer.parameter.device:
                layer.set_mask(layer.alive, layer.count)

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name, True where the weight is alive."""
        return {layer.name: layer.mask() for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """Return the masks with their shapes, as plain values and tensors.

        A mask is packed to one bit a weight; one of a sharded parameter is a DTensor laid out as it is, which
        ``torch.distributed.checkpoint`` saves by parts and loads onto any number of ranks.
        """
        return {
            "masks": {layer.name: layer.packed_mask() for layer in self.layers},
            "shapes": {layer.name: list(layer.parameter.shape) for layer in self.layers},
        }

    def read_masks(self, state: Mapping[str, Any]) -> list[Tensor]:
        """Return the masks of a `state_dict`: for each layer one of the shape of its ``weight``.

        Masks may be packed, whole or sharded.

        Raises:
            ValueError: The prunable parameters differ by name or shape.
        """
        mine = {layer.name: list(layer.parameter.shape) for layer in self.layers}
        theirs = {name: list(shape) for name, shape in state["shapes"].items()}
        complaints = [f"{name} is missing in the checkpoint" for name in mine if name not in theirs]
        complaints += [f"{name} is missing in the model" for name in theirs if name not in mine]
        complaints += [
            f"{name} is {tuple(mine[name])} here but {tuple(theirs[name])} in the checkpoint"
            for name in mine
            if name in theirs and mine[name] != theirs[name]
        ]
        if complaints:
            raise ValueError(
                f"this checkpoint belongs to another model: {'; '.join(complaints)}; load the matching one"
            )
        return [layer.read_mask(state["masks"][layer.name]) for layer in self.layers]
