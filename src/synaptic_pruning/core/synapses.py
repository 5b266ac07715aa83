"""The prunable weights of a network and which of them are alive.

Masks live here, beside the model: its modules, parameter objects, names and ``state_dict`` stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core.bitmask import pack, unpack
from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.prunable import choose, unwrap
from synaptic_pruning.core.sharding import Shard, count_true, local, total, whole


class Synapses:
    """The prunable parameters of a model with a mask for each.

    By default every weight with two or more dimensions in Linear, Conv, RNN/LSTM/GRU (cells too) and
    MultiheadAttention that requires a gradient and is not shared with an embedding. A parameter used in several places
    counts once.

    Args:
        model: The network; wrappers of ``torch.compile`` and DistributedDataParallel are seen through.
        include: Name patterns (``*`` and ``?``): take exactly the parameters that match one, whatever they are.
        exclude: Name patterns: leave out the parameters that match one.
        biases: Take the biases of those layers too, where ``include`` is not given.

    Raises:
        ValueError: A pattern matches nothing, or nothing is left to prune.

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
        model = unwrap(model)
        chosen = choose(model, include, exclude, biases)
        self.layers = [
            Layer(name, p, torch.ones_like(local(p), dtype=torch.bool), gates, transposed, Shard.of(p))
            for name, p, gates, transposed in chosen
        ]
        self.total = sum(layer.count for layer in self.layers)

    @property
    def count(self) -> int:
        """How many weights are alive."""
        return sum(layer.count for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that are gone, in [0, 1]."""
        return 1 - self.count / self.total

    @property
    def sharded(self) -> str:
        """The name of a parameter that is cut into shards, empty where none is."""
        return next((layer.name for layer in self.layers if layer.shard is not None), "")

    def keep(self, masks: Iterable[Tensor], counts: Sequence[int] | None = None) -> None:
        """Take new masks: from now on exactly the entries that are True are alive.

        Args:
            masks: For each layer a bool tensor of the shape of its ``weight``.
            counts: How many entries of each are True, over all ranks, where that is known already.
        """
        known = [None] * len(self.layers) if counts is None else counts
        for layer, mask, count in zip(self.layers, list(masks), known, strict=True):
            if mask is not layer.alive:
                layer.keep(mask, count)

    def counts(self, *marks: Sequence[Tensor]) -> list[list[int]]:
        """Count the True entries of each layer in each of these lists of marks, over all ranks.

        Args:
            marks: Lists of a bool tensor a layer, each of the shape of its ``weight``.

        Returns:
            For each list, a count a layer.
        """
        found = total(
            torch.tensor(count_true([mark for some in marks for mark in some])),
            [layer.shard for layer in self.layers] * len(marks),
        )
        return found.view(len(marks), -1).tolist()

    def follow(self) -> None:
        """Bring every mask to where its weights lie, should the network have been moved since."""
        for layer in self.layers:
            if layer.alive.device != layer.parameter.device:
                layer.keep(layer.alive, layer.count)

    def masks(self) -> dict[str, Tensor]:
        """Return a copy of each mask by parameter name, True where the weight is alive."""
        return {layer.name: layer.mask() for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """Return the masks with their shapes, as plain values and tensors.

        A mask is packed to one bit a weight; one of a sharded parameter is a DTensor laid out as it is, which
        ``torch.distributed.checkpoint`` saves by parts and loads onto any number of ranks.
        """
        return {
            "masks": {x.name: pack(x.alive) if x.shard is None else x.mask() for x in self.layers},
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
        return [_read(state["masks"][layer.name], layer) for layer in self.layers]


def _read(mask: Tensor, layer: Layer) -> Tensor:
    return layer.part_of(whole(mask) if mask.dtype is torch.bool else unpack(mask, layer.parameter.shape))
