"""The life of synapses: births, deaths, ages, and what is left of each generation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.sharding import total, whole
from synaptic_pruning.core.synapses import Synapses


class History:
    """Count births and deaths at every event, by layer and by generation (the weights born at the same step).

    All weights alive at the start are born at step 0. Where later births may happen, a birth is kept for every weight
    (two bytes each).

    Args:
        synapses: The prunable weights.
        grows: Whether weights may be born after the start.

    Attributes:
        births: Of each layer, weights born after the start.
        deaths: Of each layer, weights that died.

    Example:
        >>> synapses = Synapses(torch.nn.Linear(2, 2))
        >>> history = History(synapses)
        >>> masks = [torch.tensor([[True, False], [True, True]])]
        >>> synapses.keep(masks, counts=history.record(10, masks))
        >>> history.deaths, history.survival()
        ([1], [{'born': 0, 'size': 4, 'steps': [0, 10], 'alive': [1.0, 0.75]}])
    """

    def __init__(self, synapses: Synapses, *, grows: bool = False) -> None:
        self._synapses = synapses
        self._layers = synapses.layers
        self.births = [0] * len(self._layers)
        self.deaths = [0] * len(self._layers)
        self._born_at = [0]  # the step of each generation
        self._sizes = [[(0, synapses.count)]]  # of each generation: (step, alive)
        # Of each weight, as place in the two lists above.
        self._generation = [torch.zeros_like(x.alive, dtype=torch.int16) for x in self._layers] if grows else None

    @property
    def last(self) -> int:
        """Step of the last event, 0 before there was one."""
        return self._sizes[0][-1][0]

    def record(self, step: int, masks: Sequence[Tensor]) -> list[int]:
        """Take down an event; call it before the new masks replace the present ones.

        Returns:
            How many weights of each layer are alive in the new masks, over all ranks.
        """
        masks = [mask.to(layer.alive.device) for layer, mask in zip(self._layers, masks, strict=True)]
        if all(mask is layer.alive for layer, mask in zip(self._layers, masks, strict=True)):
            self._extend(step, [sizes[-1][1] for sizes in self._sizes])
            return [layer.count for layer in self._layers]
        born = [mask > layer.alive for layer, mask in zip(self._layers, masks, strict=True)]
        births, kept = self._synapses.counts(born, masks)
        for place, layer in enumerate(self._layers):
            self.births[place] += births[place]
            self.deaths[place] += layer.count + births[place] - kept[place]
        if any(births):
            assert self._generation is not None
            self._generation = [
                generation.to(new.device).masked_fill(new, len(self._born_at))
                for generation, new in zip(self._generation, born, strict=True)
            ]
            self._born_at.append(step)
            self._sizes.append([])
        if self._generation is None:
            self._extend(step, [sum(kept)])
        else:
            self._extend(step, self._count(self._generation, masks, self._layers).sum(0).tolist())
        return kept

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
        return step - sum(born * n for born, n in zip(self._born_at, counts, strict=True)) / layer.count

    def survival(self) -> list[dict[str, Any]]:
        """Return a curve a generation: ``born`` (step), ``size``, ``steps`` and the fraction ``alive`` at each."""
        return [
            {
                "born": born,
                "size": sizes[0][1],
                "steps": [step for step, _ in sizes],
                "alive": [alive / sizes[0][1] for _, alive in sizes],
            }
            for born, sizes in zip(self._born_at, self._sizes, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return everything recorded as plain values and tensors, laid out as their parameters are."""
        # Gloo, which may gather a sharded one, knows no int16.
        generation = self._generation and [
            g.clone() if layer.shard is None else layer.laid_out(g.to(torch.int32))
            for layer, g in zip(self._layers, self._generation, strict=True)
        ]
        return {
            "births": list(self.births),
            "deaths": list(self.deaths),
            "born_at": list(self._born_at),
            "sizes": [list(sizes) for sizes in self._sizes],
            "generation": generation,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.births, self.deaths = list(state["births"]), list(state["deaths"])
        self._born_at = list(state["born_at"])
        self._sizes = [[(step, alive) for step, alive in sizes] for sizes in state["sizes"]]
        if state["generation"] is not None:
            parts = zip(self._layers, state["generation"], strict=True)
            self._generation = [layer.part_of(whole(g)).to(torch.int16, copy=True) for layer, g in parts]

    def _extend(self, step: int, alive: Sequence[int]) -> None:
        for sizes, count in zip(self._sizes, alive, strict=True):
            sizes.append((step, count))

    def _count(self, generation: Sequence[Tensor], masks: Sequence[Tensor], layers: Sequence[Layer]) -> Tensor:
        """Count the alive weights of every generation in these layers, over all ranks: a row a layer."""
        n = len(self._born_at)
        counts = [g[mask].to(torch.int64).bincount(minlength=n) for g, mask in zip(generation, masks, strict=True)]
        return total(torch.stack([count.cpu() for count in counts]), [layer.shard for layer in layers])
