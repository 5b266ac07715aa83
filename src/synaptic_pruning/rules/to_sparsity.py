"""Prune to a wanted sparsity: a score says which weights, a schedule says how many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from synaptic_pruning.core import Synapses
from synaptic_pruning.core.activity import ActivityMonitor, warn_unobserved
from synaptic_pruning.core.topk import smallest_k
from synaptic_pruning.rules.allocation import Patterned, round_to_total
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.schedules import Schedule
from synaptic_pruning.rules.scores import Score, find_score, layer_scores, relative, starting_scales, usage

_SAMPLE = 10
"""One step in so many of a window is observed, from the first on."""


@dataclass(repr=False)
class ToSparsity(Patterned, Rule):
    """Prune the lowest scores for good until exactly ``round(schedule(progress) · weights)`` are pruned.

    Args:
        schedule: Wanted sparsity over training, such as ``cubic(0.8, begin=0.3, end=0.8)``.
        score: ``"magnitude"``, ``"relative"`` (magnitude over the scale that the layer started with), ``"usage"``,
            ``"gradient"``, ``"random"`` or a function of a `Piece`. Usage is that of the window since the event before;
            it needs whole parameters. A rule with usage or relative magnitude serves one pruner.
        scope: ``"global"`` ranks all layers together; ``"layer"`` brings each layer to the same sparsity.
        max_layer_sparsity: No layer goes above it, in (0, 1]; under the global scope the other layers give more in its
            place. Where that leaves too few to give (layers of a handful of weights), fewer than wanted are pruned.
        pattern: ``(k, n)``: of every n consecutive inputs of a row, over the kernel of a convolution too, the k of the
            highest scores stay. The schedule must end at 1 − k/n. At an event every block keeps
            ``round((1 − sparsity) · n)``; a shorter block, as the last of a row, its share of that, rounded, at least
            1, so layers of few inputs may end less sparse. In place of ``scope`` and ``max_layer_sparsity``.

    Raises:
        ValueError: An unknown score or scope, a final sparsity above ``max_layer_sparsity``, or a pattern that
            contradicts the other arguments; from the pruner, if several ranks share a block.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8), score="magnitude", scope="global")
        >>> rule = sp.ToSparsity(sp.cubic(1 - 3 / 32, end=0.05), pattern=(3, 32))
    """

    shardable: ClassVar[bool] = True
    compensate: ClassVar[float] = 4.0

    schedule: Schedule
    score: str | Score = "magnitude"
    scope: Literal["global", "layer"] = "global"
    max_layer_sparsity: float = 0.99
    _monitor: ActivityMonitor | None = field(default=None, init=False, repr=False, compare=False)
    _activity: list[Tensor | None] = field(default_factory=list, init=False, repr=False, compare=False)
    _scales: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        find_score(self.score)
        if self.scope not in ("global", "layer"):
            raise ValueError(f"scope={self.scope!r} is unknown; take 'global' or 'layer'")
        if not 0 < self.max_layer_sparsity <= 1:
            raise ValueError(f"max_layer_sparsity={self.max_layer_sparsity} must be in (0, 1]; 1 sets no cap")
        if self.pattern is not None:
            self._check_pattern("the end of the schedule", self.schedule.final, ("scope", "max_layer_sparsity"))
        elif self.schedule.final > self.max_layer_sparsity:
            raise ValueError(
                f"the schedule ends at {self.schedule.final}, above max_layer_sparsity={self.max_layer_sparsity}; "
                "raise the cap or lower the target"
            )

    @property
    def end(self) -> float:
        """Progress at which the schedule reaches its final sparsity."""
        return self.schedule.end

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Start to observe what the score asks for; see `Rule.attach`."""
        if pattern := self._within_blocks():
            pattern.check_whole(synapses)
        if find_score(self.score) is usage:
            if synapses.sharded:
                raise ValueError(
                    f"score='usage' needs whole parameters and {synapses.sharded} is sharded over several processes; "
                    "take score='magnitude', or train with DistributedDataParallel"
                )
            if self._monitor is not None and self._monitor.attached:
                raise ValueError("this ToSparsity with score='usage' already serves another pruner; make a new one")
            self._monitor = ActivityMonitor(model, synapses, sample=_SAMPLE)
            self._activity = [None] * len(synapses.layers)
        elif find_score(self.score) is relative:
            if self._scales:
                raise ValueError("this ToSparsity with score='relative' already serves another pruner; make a new one")
            self._scales = starting_scales(synapses)
        return super().attach(model, synapses)

    def observe(self, synapses: Synapses) -> None:
        """Count a step of the window."""
        if self._monitor is not None:
            self._monitor.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the unfinished window and the last one's activity, or the scales, where the score asks for them."""
        if self._monitor is None:
            return {"scales": list(self._scales)} if self._scales else {}
        return {"activity": self._monitor.state_dict(), "seen": list(self._activity)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if set(state) != set(self.state_dict()):
            raise ValueError("the checkpoint was made with another score; give ToSparsity the same score")
        if self._scales:
            self._scales = list(state["scales"])
        if self._monitor is not None:
            self._monitor.load_state_dict(state["activity"])
            self._activity = list(state["seen"])

    def detach(self) -> None:
        """Stop observing."""
        self._scales = []
        if self._monitor is not None:
            self._monitor.remove()

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks with exactly the wanted number of weights pruned; see `Rule.update`.

        Raises:
            ValueError: A score is NaN; its parameter is named.
        """
        layers, target = synapses.layers, self.schedule(progress)
        if self._monitor is not None:
            self._end_window(self._monitor, synapses, progress)
        if pattern := self._within_blocks():
            return pattern.prune(synapses, round((1 - target) * pattern.n), self.score, self._activity)
        pruned = [layer.size - layer.count for layer in layers]
        most = [max(n, int(self.max_layer_sparsity * layer.size)) for n, layer in zip(pruned, layers, strict=True)]
        if self._monitor is not None:
            # A layer without any activity cannot be scored and stays as it is.
            pairs = zip(pruned, self._activity, most, strict=True)
            most = [n if mean is None else limit for n, mean, limit in pairs]
        wanted = min(max(sum(pruned), round(target * synapses.total)), sum(most))
        if wanted == sum(pruned):
            return [layer.alive for layer in layers]
        scores = layer_scores(synapses, self.score, self._activity, self._scales)
        if self.scope == "global":
            room = [limit - n for limit, n in zip(most, pruned, strict=True)]
            return synapses.masks_without(smallest_k(scores, wanted - sum(pruned), most=room))
        wanted_here = round_to_total(wanted, [target * layer.size for layer in layers], pruned, most)
        return synapses.masks_without(
            [smallest_k([s], share - n)[0] for s, share, n in zip(scores, wanted_here, pruned, strict=True)]
        )

    def _end_window(self, monitor: ActivityMonitor, synapses: Synapses, progress: float) -> None:
        """Take the window's activity; a layer that had none in it keeps that of an earlier one."""
        means = monitor.end_window()
        self._activity = [old if new is None else new for new, old in zip(means, self._activity, strict=True)]
        if progress >= self.end:
            monitor.stop()
            warn_unobserved(synapses, self._activity, "in training")
