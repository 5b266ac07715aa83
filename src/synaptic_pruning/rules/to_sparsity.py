"""Prune to a wanted sparsity: a score says which weights, a schedule says how many."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from synaptic_pruning.core.activity.monitor import Activity, spread
from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.synapses import Synapses
from synaptic_pruning.core.topk.lazy_scores import Scores
from synaptic_pruning.core.topk.select import lowest
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.schedules import Schedule
from synaptic_pruning.rules.scores import Piece, Score, find_score, usage

_SAMPLE = 10
"""Of the steps of a window one in so many is watched, from the first on."""


@dataclass(frozen=True)
class ToSparsity(Rule):
    """Remove the lowest scores for good until exactly ``round(schedule(progress) · weights)`` are gone.

    Args:
        schedule: Wanted sparsity over training, such as ``cubic(0.8, begin=0.3, end=0.8)``.
        score: ``"magnitude"``, ``"usage"``, ``"gradient"``, ``"random"`` or a function of a `Piece`. Usage is judged
            by the window since the event before; it needs whole parameters, and a rule with it serves one pruner.
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
    _watch: list[Activity] = field(default_factory=list, init=False, repr=False, compare=False)  # none or one
    _seen: list[Tensor | None] = field(default_factory=list, init=False, repr=False, compare=False)

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

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Start to watch the model where the score asks for activity; see `Rule.attach`."""
        if find_score(self.score) is usage:
            if synapses.sharded:
                raise ValueError(
                    f"score='usage' needs whole parameters and {synapses.sharded} is sharded over several processes; "
                    "take score='magnitude', or train with DistributedDataParallel"
                )
            if self._watch:
                raise ValueError("this ToSparsity with score='usage' already serves another pruner; make a new one")
            self._watch.append(Activity(model, synapses, sample=_SAMPLE))
            self._seen[:] = [None] * len(synapses.layers)
        return super().attach(model, synapses)

    def observe(self, synapses: Synapses) -> None:
        """Count the step of a window."""
        for activity in self._watch:
            activity.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the unfinished window and the last one's activity, where there is a watch."""
        return {"activity": self._watch[0].state_dict(), "seen": list(self._seen)} if self._watch else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if bool(state) != bool(self._watch):
            raise ValueError("the checkpoint was made with another score; give ToSparsity the same score")
        for activity in self._watch:
            activity.load_state_dict(state["activity"])
            self._seen[:] = state["seen"]

    def detach(self) -> None:
        """Stop watching."""
        for activity in self._watch:
            activity.remove()

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks with exactly the wanted number of weights gone; see `Rule.update`.

        Raises:
            ValueError: A score is NaN; its parameter is named.
        """
        sizes = [layer.size for layer in synapses.layers]
        gone = [size - layer.count for size, layer in zip(sizes, synapses.layers, strict=True)]
        most = [max(dead, int(self.max_layer_sparsity * size)) for size, dead in zip(sizes, gone, strict=True)]
        target = self.schedule(progress)
        seen = [self._look(activity, synapses, progress) for activity in self._watch]
        if seen:
            most = [dead if mean is None else limit for dead, mean, limit in zip(gone, seen[0], most, strict=True)]
        wanted = min(max(sum(gone), round(target * synapses.total)), sum(most))
        if wanted == sum(gone):
            return [layer.alive for layer in synapses.layers]
        scores = layer_scores(synapses, self.score, *seen)
        if self.scope == "global":
            room = [limit - dead for limit, dead in zip(most, gone, strict=True)]
            dying = lowest(scores, wanted - sum(gone), most=room)
        else:
            wanted_here = shares(wanted, [target * size for size in sizes], gone, most)
            dying = [lowest([s], share - dead)[0] for s, share, dead in zip(scores, wanted_here, gone, strict=True)]
        return survivors(synapses, dying)

    def _look(self, activity: Activity, synapses: Synapses, progress: float) -> list[Tensor | None]:
        """End the window; a layer that saw nothing in it is judged by an earlier one, or left alone."""
        means = activity.close()
        self._seen[:] = [old if new is None else new for new, old in zip(means, self._seen, strict=True)]
        if progress >= self.end:
            activity.rest()
            unseen = [layer.name for layer, mean in zip(synapses.layers, self._seen, strict=True) if mean is None]
            if unseen:
                warnings.warn(
                    f"{unseen[0]} saw no finite input in training and stays as it is; call the layer itself in "
                    "training mode, attach the pruner before the first call of a compiled model, or leave it out with "
                    "exclude=",
                    stacklevel=2,
                )
        return list(self._seen)


def layer_scores(synapses: Synapses, score: str | Score, activity: Sequence[Tensor | None] = ()) -> list[Scores]:
    """Return the scores of all alive weights, computed when read.

    Args:
        synapses: The prunable weights.
        score: As `ToSparsity` takes it.
        activity: What each layer saw, as `Activity.close` gives it, for scores that ask for it; None counts as 0.
    """
    function = find_score(score)
    inputs: list[Tensor | None] = [None] * len(synapses.layers)
    if activity:
        inputs = [
            layer.parameter.new_zeros((1,) * layer.parameter.dim()) if mean is None else mean
            for layer, mean in zip(synapses.layers, activity, strict=True)
        ]
    return [_scores(layer, place, function, inputs[place]) for place, layer in enumerate(synapses.layers)]


def survivors(synapses: Synapses, dying: Sequence[Tensor]) -> list[Tensor]:
    """Return the masks left when the marked entries (flat, True where a weight dies) are taken away."""
    return [
        torch.logical_and(layer.alive, ~dead.view_as(layer.alive))
        for layer, dead in zip(synapses.layers, dying, strict=True)
    ]


def _scores(layer: Layer, place: int, score: Score, activity: Tensor | None) -> Scores:
    weight = layer.weight.detach().reshape(-1)
    gradient = None if layer.gradient is None else layer.gradient.reshape(-1)
    inputs = None if activity is None else spread(activity, layer.weight).reshape(-1)

    def read(start: int, stop: int) -> Tensor:
        slopes = None if gradient is None else gradient[start:stop]
        seen = None if inputs is None else inputs[start:stop]
        return score(Piece(weight[start:stop], slopes, place, start, layer.shard, seen))

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
