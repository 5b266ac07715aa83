"""What is compared on images: the plain network, dropout, use it or lose it, and other rules at its sparsity."""

from collections.abc import Callable
from dataclasses import dataclass

import synaptic_pruning as sp

SPARSITY = 0.9
"""What the matched arms are brought to where “disuse” does not take part."""


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: what `--arms` and the results call it.
        meaning: what it is, in words.
        dropout: probability of the model's dropout layers while training, in [0, 1).
        rule: a fresh rule for a final sparsity and a seed; None prunes nothing.
        matched: brought to the sparsity that “disuse” reached with the same seed.
    """

    name: str
    meaning: str
    dropout: float = 0.0
    rule: Callable[[float, int], sp.Rule] | None = None
    matched: bool = False

    def rule_for(self, sparsity: float, seed: int) -> sp.Rule | None:
        """Return a fresh rule; None where nothing is to be removed.

        Example:
            >>> ARMS["none"].rule_for(0.0, 0) is ARMS["synaptic"].rule_for(0.0, 0) is None
            True
            >>> ARMS["synaptic"].rule_for(0.8, 0).schedule.final
            0.8
        """
        if self.rule is None or (self.matched and sparsity == 0):
            return None
        return self.rule(sparsity, seed)


def _ramp(sparsity: float) -> sp.Schedule:
    return sp.cubic(sparsity, begin=0.05, end=0.5)  # ends where Disuse does


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none", "the plain, dense network"),
        Arm("dropout", "dropout with probability 0.3 while training", dropout=0.3),
        Arm(
            "synaptic",
            "the smallest weights of the whole network go, on a cubic ramp",
            rule=lambda sparsity, seed: sp.ToSparsity(_ramp(sparsity)),
            matched=True,
        ),
        Arm(
            "disuse",
            "use it or lose it: connections idle for five windows in a row go; the sparsity is an outcome",
            rule=lambda sparsity, seed: sp.Disuse(),
        ),
        Arm(
            "rigl",
            "sparse from the first step on; weak connections give way to those that the gradient asks for",
            rule=lambda sparsity, seed: sp.RigL(sparsity, seed=seed),
            matched=True,
        ),
        Arm(
            "random",
            "random weights go on the ramp of “synaptic”: whether choosing matters at all",
            rule=lambda sparsity, seed: sp.ToSparsity(_ramp(sparsity), score=sp.scores.random(seed)),
            matched=True,
        ),
    )
}
"""Every arm by name, in the order of tables and legends."""
