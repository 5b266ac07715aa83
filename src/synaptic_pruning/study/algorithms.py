"""Name the pruning algorithms that studies compare: one table for all tasks.

A name means the same rule with the same settings for series and for images. Only where in training a ramp begins and
ends belongs to the task, so each task hands its `Ramp` to the table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import synaptic_pruning as sp

_AT_ONCE = 1e-6
"""A progress that the first event is past: no masks change after the start."""


@dataclass(frozen=True)
class Ramp:
    """Where in training a task prunes.

    Attributes:
        begin: Progress in [0, 1) at which the first weights are pruned; a single cut is made here.
        end: Progress in (0, 1] at which the final sparsity is reached.
    """

    begin: float
    end: float

    def __str__(self) -> str:
        return f"from {100 * self.begin:.0f} % to {100 * self.end:.0f} % of training"

    def to(self, sparsity: float) -> sp.Schedule:
        """Return the cubic schedule that reaches a final sparsity at the end of the ramp."""
        return sp.cubic(sparsity, begin=self.begin, end=self.end)


@dataclass(frozen=True)
class Algorithm:
    """One way to prune.

    Attributes:
        rule: Makes a fresh rule of a final sparsity, the seed of the training and the ramp of the task. A number is the
            final sparsity of `synaptic_pruning.default_rule`, which takes the length of training too.
        meaning: What it does, in words; "{ramp}" stands for the ramp of the task.
        sparsity: Final sparsity that belongs to the algorithm, 0 where it is an outcome; None where a study chooses it.
        compensate: Largest factor on the learning rate while weights go, where it is not the rule's own; see
            `synaptic_pruning.SynapticPruner`.
    """

    rule: Callable[[float, int, Ramp], sp.Rule | float]
    meaning: str
    sparsity: float | None = None
    compensate: float | None = None

    def describe(self, ramp: Ramp) -> str:
        """Say what the algorithm does in a task.

        Example:
            >>> ALGORITHMS["magnitude"].describe(Ramp(0.3, 0.8))
            'the smallest weights of the whole network are pruned on a cubic ramp from 30 % to 80 % of training'
        """
        return self.meaning.format(ramp=ramp)


ALGORITHMS: dict[str, Algorithm] = {
    "set": Algorithm(
        lambda sparsity, seed, ramp: sp.SET(sparsity, seed=seed, scaled_start=True),
        "sparse from the first step on; the weakest weights are pruned and as many others grow at random",
    ),
    "vos2025": Algorithm(
        lambda sparsity, seed, ramp: sp.vos2025(initial=0.3, final=sparsity, warmup=2 / 20),
        "as published, 30 % to 70 %",
        sparsity=0.7,
    ),
    "magnitude": Algorithm(
        lambda sparsity, seed, ramp: sp.ToSparsity(ramp.to(sparsity)),
        "the smallest weights of the whole network are pruned on a cubic ramp {ramp}",
    ),
    "early": Algorithm(
        lambda sparsity, seed, ramp: sparsity,
        "the smallest weights of the whole network, relative to the scale that their layer started with, are pruned "
        "over the first 5 % of training, or 100 steps if that is more",
    ),
    "uncompensated": Algorithm(
        lambda sparsity, seed, ramp: sparsity,
        "as “early”, while learning rates stay as they are set",
        compensate=1.0,
    ),
    "inputs": Algorithm(
        lambda sparsity, seed, ramp: sp.Inputs(sp.cubic(sparsity, end=0.1)),
        "whole input features are pruned, those whose weights are smallest, over the first 10 % of training",
    ),
    "rigl": Algorithm(
        lambda sparsity, seed, ramp: sp.RigL(sparsity, seed=seed, scaled_start=True),
        "as “set”, but the others grow where the gradient is largest",
    ),
    "granet": Algorithm(
        lambda sparsity, seed, ramp: sp.GraNet(sparsity, seed=seed),
        "dense at the start, pruned on a ramp to half of training, with the swaps of “rigl” on top",
    ),
    "disuse": Algorithm(
        lambda sparsity, seed, ramp: sp.Disuse(),
        "use it or lose it: connections idle for five windows in a row are pruned; the sparsity is an outcome",
        sparsity=0.0,
    ),
    "survival": Algorithm(
        lambda sparsity, seed, ramp: sp.Survival(),
        "as “disuse”, by a score that leaks; the sparsity is an outcome",
        sparsity=0.0,
    ),
    "one-shot": Algorithm(
        lambda sparsity, seed, ramp: sp.ToSparsity(sp.one_shot(sparsity, at=ramp.begin)),
        "the smallest weights of the whole network are pruned in a single cut, where the ramp of “magnitude” begins",
    ),
    "random": Algorithm(
        lambda sparsity, seed, ramp: sp.SET(sparsity, end=_AT_ONCE, seed=seed, scaled_start=True),
        "the random masks that “set” starts with, and none of their weights exchanged",
    ),
    "random-ramp": Algorithm(
        lambda sparsity, seed, ramp: sp.ToSparsity(ramp.to(sparsity), score=sp.scores.random(seed)),
        "random weights are pruned on the ramp of “magnitude”: whether choosing matters at all",
    ),
}
"""Algorithms by name, in the order of tables and legends."""

DEFAULT = "early"
"""The algorithm that the library's default rule follows, `synaptic_pruning.default_rule`; its arm is “synaptic”."""
