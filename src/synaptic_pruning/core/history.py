"""Record of grown and pruned weights, their ages, and survival by generation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import PrunableParameter
from synaptic_pruning.core.sharding import total, whole
from synaptic_pruning.core.synapses import Synapses


class History:
    """Count grown and pruned weights at every event, by layer and by generation (the weights grown at the same step).

    All weights alive at the start belong to the generation of step 0. Under a rule that grows, two bytes a weight
    remember its generation.

    Args:
        synapses: The prunable weights.
        grows: Whether weights may grow after the start.

    Attributes:
        grown: Of each layer, weights grown after the start.
        pruned: Of each layer, weights pruned after the start, those that grew again included.

    Example:
        >>> synapses = Synapses(torch.nn.Linear(2, 2))
        >>> history = History(synapses)
        >>> masks = [torch.tensor([[True, False], [True, True]])]
        >>> history.record(10, masks, grown=[0], alive=[3])
        >>> synapses.set_masks(masks)
        >>> history.pruned, history.survival()
        ([1], [{'grown_at': 0, 'size': 4, 'steps': [0, 10], 'alive': [1.0, 0.75]}])
    """

    def __init__(self, synapses: Synapses, *, grows: bool = False) -> None:
        self._layers = synapses.layers
        self.grown = [0] * len(self._layers)
        self.pruned = [0] * len(self._layers)
        self._grown_at = [0]  # the step of each generation
        self._sizes = [[(0, synapses.count)]]  # of each generation: (step, alive)
        # Of each weight, as place in the two lists above.
        self._generation = [torch.zeros_like(x.alive, dtype=torch.int16) for x in self._layers] if grows else None

    def record_unchanged(self, step: int) -> None:
        """Record an event that changed no mask."""
        self._extend(step, [sizes[-1][1] for sizes in self._sizes])

    def record(self, step: int, masks: Sequence[Tensor], *, grown: Sequence[int], alive: Sequence[int]) -> None:
        """Record an event; call it before the new masks replace the present ones.

        Args:
            step: Optimizer steps so far.
            masks: The new mask of each layer.
            grown: Of each layer, weights that are alive in the new mask only, over all ranks.
            alive: Of each layer, weights that are alive in the new mask, over all ranks.
        """
        for place, layer in enumerate(self._layers):
            self.grown[place] += grown[place]
            self.pruned[place] += layer.count + grown[place] - alive[place]
        if self._generation is None:
            self._extend(step, [sum(alive)])
            return
        masks = [mask.to(layer.alive.device) for layer, mask in zip(self._layers, masks, strict=True)]
        if any(grown):
            self._generation = [
                generation.to(mask.device).masked_fill(mask > layer.alive, len(self._grown_at))
                for generation, mask, layer in zip(self._generation, masks, self._layers, strict=True)
            ]
            self._grown_at.append(step)
            self._sizes.append([])
        self._extend(step, self._count(self._generation, masks, self._layers).sum(0).tolist())

    def mean_age(self, place: int, step: int) -> float:
        """Return the mean age in optimizer steps of a layer's alive weights at a step; 0 where none is alive.

        Of a shard, every rank must call it.
        """
        layer = self._layers[place]
        if layer.count == 0:
            return 0.0
        if self._generation is None:
            return float(step)
        counts: list[int] = self._count([self._generation[place]], [layer.alive], [layer])[0].tolist()
        return step - sum(grown_at * n for grown_at, n in zip(self._grown_at, counts, strict=True)) / layer.count

    def survival(self) -> list[dict[str, Any]]:
        """Return for each generation ``grown_at`` (a step), ``size``, ``steps`` and the fraction ``alive`` at those."""
        return [
            {
                "grown_at": grown_at,
                "size": sizes[0][1],
                "steps": [step for step, _ in sizes],
                "alive": [alive / sizes[0][1] for _, alive in sizes],
            }
            for grown_at, sizes in zip(self._grown_at, self._sizes, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return everything recorded as plain values and tensors, laid out as their parameters are."""
        # Gloo, which may gather a sharded one, knows no int16.
        generation = self._generation and [
            g.clone() if layer.shard is None else layer.laid_out(g.to(torch.int32))
            for layer, g in zip(self._layers, self._generation, strict=True)
        ]
        return {
            "births": list(self.grown),
            "deaths": list(self.pruned),
            "born_at": list(self._grown_at),
            "sizes": [list(sizes) for sizes in self._sizes],
            "generation": generation,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.grown, self.pruned = list(state["births"]), list(state["deaths"])
        self._grown_at = list(state["born_at"])
        self._sizes = [[(step, alive) for step, alive in sizes] for sizes in state["sizes"]]
        if state["generation"] is not None:
            parts = zip(self._layers, state["generation"], strict=True)
            self._generation = [layer.part_of(whole(g)).to(torch.int16, copy=True) for layer, g in parts]

    def _extend(self, step: int, alive: Sequence[int]) -> None:
        for sizes, count in zip(self._sizes, alive, strict=True):
            sizes.append((step, count))

    def _count(
        self, generation: Sequence[Tensor], masks: Sequence[Tensor], layers: Sequence[PrunableParameter]
    ) -> Tensor:
        """Count the alive weights of every generation in these layers, over all ranks: a row a layer."""
        n = len(self._grown_at)
        counts = [g[mask].to(torch.int64).bincount(minlength=n) for g, mask in zip(generation, masks, strict=True)]
        return total(torch.stack([count.cpu() for count in counts]), [layer.shard for layer in layers])
