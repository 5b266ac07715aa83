"""Name the arms of a comparison on images: the plain network, dropout, and algorithms brought to one sparsity."""

from dataclasses import dataclass

import synaptic_pruning as sp
from synaptic_pruning.study.algorithms import ALGORITHMS, DEFAULT, Ramp

RAMP = Ramp(begin=0.05, end=0.5)
"""Where studies on images prune; it ends where `Disuse` does."""

SPARSITY = 0.9
"""What the matched arms are brought to where “disuse” does not take part."""


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: What `--arms` and the results call it.
        meaning: What it is, in words.
        dropout: Probability of the model's dropout layers while training, in [0, 1).
        algorithm: A name of `ALGORITHMS`, or "" to prune nothing.
    """

    name: str
    meaning: str
    dropout: float = 0.0
    algorithm: str = ""

    @property
    def prunes(self) -> bool:
        """Whether a pruner runs along."""
        return bool(self.algorithm)

    @property
    def matched(self) -> bool:
        """Whether it is brought to the sparsity that “disuse” reached with the same seed."""
        return self.prunes and ALGORITHMS[self.algorithm].sparsity is None

    def rule(self, sparsity: float, seed: int) -> sp.Rule | float | None:
        """Return a fresh rule or the sparsity of the default one; None where nothing is to be pruned.

        Example:
            >>> ARMS["none"].rule(0.0, 0) is ARMS["magnitude"].rule(0.0, 0) is None
            True
            >>> ARMS["magnitude"].rule(0.8, 0).schedule.final
            0.8
        """
        if not self.prunes or (self.matched and sparsity == 0):
            return None
        return ALGORITHMS[self.algorithm].rule(sparsity, seed, RAMP)


def _arm(name: str, algorithm: str) -> Arm:
    meaning = ALGORITHMS[algorithm].describe(RAMP)
    if name != algorithm:
        meaning = f"the library's default, “{algorithm}”: {meaning}"
    return Arm(name, meaning, algorithm=algorithm)


_ALGORITHMS = ("magnitude", "disuse", "set", "rigl", "granet", "one-shot", "random", "random-ramp")

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none", "the plain, dense network"),
        Arm("dropout", "dropout with probability 0.3 while training", dropout=0.3),
        _arm("synaptic", DEFAULT),
        *(_arm(name, name) for name in _ALGORITHMS),
    )
}
"""Every arm by name, in the order of tables and legends."""
