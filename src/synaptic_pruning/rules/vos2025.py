"""The published method: magnitude pruning exactly as Vos et al. (2025) released it, for comparison only."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from synaptic_pruning.core import Synapses
from synaptic_pruning.core.topk import LazyScores, kth_smallest
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.schedules import Schedule, cubic_ease_in
from synaptic_pruning.rules.scores import layer_scores


@dataclass(frozen=True)
class Vos2025(Rule):
    """The rule that `vos2025` makes, with the published method in its docstring.

    Attributes:
        schedule: Its ease-in cubic.
        epochs: Epochs of training; the target is constant within one.
    """

    shardable: ClassVar[bool] = True

    schedule: Schedule
    epochs: int

    @property
    def end(self) -> float:
        """Progress at which the last epoch begins, whose target is the last one."""
        return (self.epochs - 1) / self.epochs

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks without the weights strictly below the threshold; see `Rule.update`."""
        # The small number undoes rounding such as 0.3 · 20 = 5.999…, which would name the epoch before.
        epoch = min(int(progress * self.epochs + 1e-9), self.epochs - 1)
        more = int(self.schedule(epoch / self.epochs) * synapses.total) - (synapses.total - synapses.count)
        if more <= 0:
            return [layer.alive for layer in synapses.layers]
        scores = layer_scores(synapses, "magnitude")
        threshold = kth_smallest(scores, more)
        return synapses.masks_without([_below(score, threshold) for score in scores])


def vos2025(*, initial: float = 0.3, final: float = 0.7, warmup: float = 2 / 20, epochs: int = 20) -> Vos2025:
    """Return the published method: global magnitude, ease-in cubic, epoch targets, a strict threshold.

    In epoch t of T, after the warm-up, ``s(t) = initial + (final − initial) · ((t − t_w) / (T − t_w))³``; the threshold
    is the n-th smallest active magnitude, n = ⌊s·N⌋ − (already pruned), and weights strictly below it are pruned.
    So an event prunes one weight less than its target says (more where magnitudes tie), the last epoch stops short of
    ``final``, and a layer may be emptied. All of this is how the released code works; `ToSparsity` does none of it.

    Args:
        initial: Sparsity when the warm-up ends, in [0, 1).
        final: Sparsity the ramp heads for, in [0, 1).
        warmup: Fraction of training without pruning, in [0, 1].
        epochs: Epochs of training, at least 1; give the number you train for.

    Raises:
        ValueError: A number outside its range.

    Source: Vos, van Eijk, Sarnyai, Rahimi Azghadi, arXiv 2508.09330; the strict threshold is in their code.

    Example:
        >>> rule = vos2025(initial=0.3, final=0.7, warmup=2 / 20)
        >>> [round(rule.schedule(epoch / 20), 3) for epoch in (0, 1, 2, 11, 19)]
        [0.0, 0.0, 0.3, 0.35, 0.637]
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs} must be at least 1: the number of epochs you train for")
    return Vos2025(cubic_ease_in(final, begin=warmup, end=1.0, initial=initial), epochs)


def _below(scores: LazyScores, threshold: float) -> Tensor:
    """Mark the alive entries strictly below the threshold."""
    marked = scores.read(0, scores.size) < threshold
    return marked if scores.alive is None else marked & scores.alive
