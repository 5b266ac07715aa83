"""Prune to a wanted sparsity: a score says which weights, a schedule says how many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from synaptic_pruning.rules import Rule
from synaptic_pruning.schedules import Schedule
from synaptic_pruning.scores import Piece, Score, find_score
from synaptic_pruning.synapses import Layer, Synapses
from synaptic_pruning.threshold import Scores, lowest


@dataclass(frozen=True)
class ToSparsity(Rule):
    """Remove the lowest scores for good until exactly ``round(schedule(progress) · weights)`` are gone.

    Args:
        schedule: Wanted sparsity over training, such as ``cubic(0.8, begin=0.3, end=0.8)``.
        score: ``"magnitude"``, ``"gradient"``, ``"random"`` or a function of a `Piece`.
        scope: ``"global"`` ranks all layers together; ``"layer"`` brings each layer to the same sparsity.
        max_layer_sparsity: No layer goes above it, in (0, 1]; under the global scope the other layers give more in its
            place. Where that leaves too few to give (layers of a handful of weights), fewer than wanted are removed.

    Raises:
        ValueError: An unknown score or scope, or a final sparsity above ``max_layer_sparsity``.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8), score="magnitude", scope="global")
    """

    shardable: ClassVar[bool] = True

    schedule: Schedule
    score: str | Score = "magnitude"
    scope: Literal["global", "layer"] = "global"
    max_layer_sparsity: float = 0.99

    def __post_init__(self) -> None:
        find_score(self.score)
        if self.scope not in ("global", "layer"):
            raise ValueError(f"scope={self.scope!r} is unknown; take 'global' or 'layer'")
        if not 0 < self.max_layer_sparsity <= 1:
            raise ValueError(f"max_layer_sparsity={self.max_layer_sparsity} must be in (0, 1]; 1 sets no cap")
        if self.schedule.final > self.max_layer_sparsity:
            raise ValueError(
                f"the schedule ends at {self.schedule.final}, above max_layer_sparsity={self.max_layer_sparsity}; "
                "raise the cap or lower the target"
            )

    @property
    def end(self) -> float:
        """Progress at which the schedule reaches its final sparsity."""
        return self.schedule.end

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks with exactly the wanted number of weights gone; see `Rule.update`.

        Raises:
            ValueError: A score is NaN; its parameter is named.
        """
        sizes = [layer.size for layer in synapses.layers]
        gone = [size - layer.count for size, layer in zip(sizes, synapses.layers, strict=True)]
        most = [max(dead, int(self.max_layer_sparsity * size)) for size, dead in zip(sizes, gone, strict=True)]
        target = self.schedule(progress)
        wanted = min(max(sum(gone), round(target * synapses.total)), sum(most))
        scores = layer_scores(synapses, self.score)
        if self.scope == "global":
            room = [limit - dead for limit, dead in zip(most, gone, strict=True)]
            dying = lowest(scores, wanted - sum(gone), most=room)
        else:
            wanted_here = shares(wanted, [target * size for size in sizes], gone, most)
            dying = [lowest([s], share - dead)[0] for s, share, dead in zip(scores, wanted_here, gone, strict=True)]
        return survivors(synapses, dying)


def layer_scores(synapses: Synapses, score: str | Score) -> list[Scores]:
    """Return the scores of all alive weights, computed when read."""
    function = find_score(score)
    return [_scores(layer, place, function) for place, layer in enumerate(synapses.layers)]


def survivors(synapses: Synapses, dying: Sequence[Tensor]) -> list[Tensor]:
    """Return the masks left when the marked entries (flat, True where a weight dies) are taken away."""
    return [
        torch.logical_and(layer.alive, ~dead.view_as(layer.alive))
        for layer, dead in zip(synapses.layers, dying, strict=True)
    ]


def _scores(layer: Layer, place: int, score: Score) -> Scores:
    weight = layer.weight.detach().reshape(-1)
    gradient = None if layer.gradient is None else layer.gradient.reshape(-1)

    def read(start: int, stop: int) -> Tensor:
        slopes = None if gradient is None else gradient[start:stop]
        return score(Piece(weight[start:stop], slopes, place, start, layer.shard))

    alive = None if layer.count == layer.size else layer.alive.reshape(-1)
    dtype = read(0, 0).dtype
    return Scores(layer.name, weight.numel(), read, dtype, weight.device, alive, layer.shard)


def shares(total: int, exact: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Round the exact shares to whole numbers between ``least`` and ``most`` that sum to ``total``, nearest first."""
    taken = [min(max(low, int(share)), high) for share, low, high in zip(exact, least, most, strict=True)]
    while sum(taken) != total:
        step = 1 if sum(taken) < total else -1
        movable = [i for i, limit in enumerate(most if step > 0 else least) if taken[i] != limit]
        taken[max(movable, key=lambda i: step * (exact[i] - taken[i]))] += step
    return taken
