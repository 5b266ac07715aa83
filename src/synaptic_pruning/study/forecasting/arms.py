"""Name the arms of a comparison on series: how networks are trained, what an arm may choose from, how it is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

import synaptic_pruning as sp
from synaptic_pruning.study.algorithms import ALGORITHMS, DEFAULT, Ramp

RAMP = Ramp(begin=0.3, end=0.8)
"""Where studies on series prune."""

TOLERANCE = 0.01
"""Of arms that choose a sparsity: one percent of validation error buys the sparser network."""

_STORED_NAMES = {"set": "growing"}
"""Algorithms that records and hashes know by an older name: renaming them there would orphan every published study."""


class RegimeSettings(TypedDict):
    """A `Regime` as records and hashes hold it; ``recipe`` is the stored name of the algorithm."""

    dropout: float
    weight_decay: float
    recipe: str
    sparsity: float
    repeat: int


@dataclass(frozen=True)
class Regime:
    """How one network is trained. Arms with an equal regime share one training.

    Attributes:
        dropout: Probability of the model's dropout layers while training, in [0, 1).
        weight_decay: Adam's, at least 0.
        algorithm: A name of `ALGORITHMS`, or "" to prune nothing.
        sparsity: Final sparsity of the algorithm, 0 where it is an outcome; without an algorithm, the share of weights
            that the network is built without, so that a narrow dense network stands beside a sparse one.
        repeat: Counts repetitions with other initial weights and another data order, for a null check.
    """

    dropout: float = 0.0
    weight_decay: float = 0.0
    algorithm: str = ""
    sparsity: float = 0.0
    repeat: int = 0

    @property
    def prunes(self) -> bool:
        """Whether a pruner runs along."""
        return bool(self.algorithm)

    @property
    def rate(self) -> float:
        """Factor on the learning rate: 2 for networks with few weights throughout, sparse or narrow, otherwise 1.

        A step of Adam changes what a unit puts out the more, the more inputs it has, so that units with fewer want a
        higher rate: in theory 1 / (width · density) (Dey et al. 2024, arXiv 2405.15743). On the development sets sparse
        networks do better at 2 and 4 than at 1 and 8, dense ones do not (docs/recipe.md); 2 is the cautious one.

        Example:
            >>> Regime(algorithm="set", sparsity=0.8).rate, Regime(sparsity=0.8).rate, Regime().rate
            (2.0, 2.0, 1.0)
        """
        rule = self.rule()
        few = self.sparsity > 0 if rule is None else rule.ramp_end == 0
        return 2.0 if few else 1.0

    @property
    def setting(self) -> str:
        """What was chosen, in a few characters, "" where there is nothing to choose.

        Example:
            >>> Regime(algorithm="set", sparsity=0.8).setting, Regime(dropout=0.1).setting, Regime().setting
            ('sparsity 0.8', 'dropout 0.1', '')
        """
        values = {"dropout": self.dropout, "weight decay": self.weight_decay, "sparsity": self.sparsity}
        return ", ".join(f"{name} {value:.3g}" for name, value in values.items() if value)

    def rule(self, seed: int = 0) -> sp.Rule | None:
        """Return a fresh rule, or None where nothing is pruned."""
        return ALGORITHMS[self.algorithm].rule(self.sparsity, seed, RAMP) if self.algorithm else None

    def to_dict(self) -> RegimeSettings:
        """Return the settings as records and hashes hold them."""
        return {
            "dropout": self.dropout,
            "weight_decay": self.weight_decay,
            "recipe": stored_name(self.algorithm),
            "sparsity": self.sparsity,
            "repeat": self.repeat,
        }


def stored_name(algorithm: str) -> str:
    """Return the name by which records and hashes know an algorithm.

    Example:
        >>> stored_name("set"), stored_name("rigl")
        ('growing', 'rigl')
    """
    return _STORED_NAMES.get(algorithm, algorithm)


@dataclass(frozen=True)
class Grid:
    """What arms choose from, on validation data only; equally long grids are equal tuning budgets.

    Attributes:
        dropout: Rates in (0, 1).
        sparsity: Final sparsities in (0, 1), for every arm that prunes to a chosen one.
        weight_decay: Factors above 0.
    """

    dropout: tuple[float, ...] = (0.3,)
    sparsity: tuple[float, ...] = (0.8,)
    weight_decay: tuple[float, ...] = (1e-4,)


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: What `--arms` and the results call it.
        candidates: Gives the regimes that it chooses from, of a grid.
        passes: Stochastic forward passes whose forecasts are averaged; 0 is one pass without dropout.
        tolerance: Share by which the validation error of the setting that is taken, the sparsest, may be above the
            smallest.
        ensemble: Whether networks of different seeds are averaged, as many as `members` says.
        meaning: What it is, in words.

    Example:
        >>> ARMS["dropout"].candidates(Grid()) == ARMS["mc-dropout"].candidates(Grid())
        True
    """

    name: str
    candidates: Callable[[Grid], tuple[Regime, ...]] = field(compare=False)
    passes: int = 0
    tolerance: float = 0.0
    ensemble: bool = False
    meaning: str = ""


def _fixed(**settings: float | str) -> Callable[[Grid], tuple[Regime, ...]]:
    return lambda grid: (Regime(**settings),)  # type: ignore[arg-type]


def _dropout(grid: Grid) -> tuple[Regime, ...]:
    return tuple(Regime(dropout=rate) for rate in grid.dropout)


def _pruned(algorithm: str) -> Callable[[Grid], tuple[Regime, ...]]:
    return lambda grid: tuple(Regime(algorithm=algorithm, sparsity=sparsity) for sparsity in grid.sparsity)


def members(sparsity: float) -> int:
    """Return how many networks of a final sparsity have together at most the weights of one dense network.

    Example:
        >>> members(0.8), members(0.7), members(0.4)
        (5, 3, 1)
    """
    return int(1 / (1 - sparsity) + 1e-9)  # 1 / (1 - 0.9) may be a hair below 10


def _narrow(grid: Grid) -> tuple[Regime, ...]:
    return tuple(Regime(sparsity=sparsity) for sparsity in grid.sparsity)


def _several(candidates: Callable[[Grid], tuple[Regime, ...]]) -> Callable[[Grid], tuple[Regime, ...]]:
    return lambda grid: tuple(regime for regime in candidates(grid) if members(regime.sparsity) > 1)


def _arm(name: str, algorithm: str) -> Arm:
    """Return the arm of an algorithm; it chooses the sparsity from the grid unless the algorithm has its own."""
    own, meaning = ALGORITHMS[algorithm].sparsity, ALGORITHMS[algorithm].describe(RAMP)
    if name != algorithm:
        meaning = f"the library's default, “{algorithm}”: {meaning}"
    if own is None:
        return Arm(name, _pruned(algorithm), tolerance=TOLERANCE, meaning=meaning)
    return Arm(name, _fixed(algorithm=algorithm, sparsity=own), meaning=meaning)


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none", _fixed(), meaning="the plain network"),
        Arm("dropout", _dropout, meaning="dropout while training"),
        Arm(
            "mc-dropout", _dropout, passes=50, meaning="dropout, asked 50 times with dropout on; forecasts are averaged"
        ),
        _arm("synaptic", DEFAULT),
        *(_arm(name, name) for name in ALGORITHMS),
        Arm(
            "narrow",
            _narrow,
            tolerance=TOLERANCE,
            meaning="a dense network built with as many weights as are alive in “synaptic”",
        ),
        Arm(
            "weight-decay",
            lambda grid: tuple(Regime(weight_decay=factor) for factor in grid.weight_decay),
            meaning="the plain network with weight decay",
        ),
        Arm(
            "synaptic-ensemble",
            _several(_pruned(DEFAULT)),
            ensemble=True,
            meaning="pruned networks of several seeds, averaged: as many as have the weights of one dense network",
        ),
        Arm(
            "narrow-ensemble",
            _several(_narrow),
            ensemble=True,
            meaning="as many narrow dense networks, averaged: whether it is sparsity or averaging that helps",
        ),
        Arm("identical", _fixed(repeat=1), meaning="“none” again with other seeds: the null check"),
        Arm("broken", _fixed(dropout=0.99), meaning="dropout 0.99: the control that must lose"),
    )
}
"""Every arm by name, in the order of tables and legends."""
