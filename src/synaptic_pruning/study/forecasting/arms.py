"""Name the arms of a comparison on series: what an arm may choose from, and how its networks are asked."""

from collections.abc import Callable
from dataclasses import dataclass, field

from synaptic_pruning.study.algorithms import ALGORITHMS, DEFAULT
from synaptic_pruning.study.forecasting.options import RAMP, Grid, Option, draw

TOLERANCE = 0.01
"""Of arms that choose a sparsity: one percent of validation error buys the sparser network."""

_LITTLE = 0.1
"""Dropout that goes with pruning in arms that have both."""


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: What `--arms` and the results call it.
        settings: Gives what it chooses from beside the learning rate, of a grid.
        passes: Stochastic forward passes whose forecasts are averaged; 0 is one pass without dropout.
        tolerance: Share by which the validation error of the option that is taken, that with the fewest weights, may
            be above the smallest.
        members: Number of networks of different seeds that are averaged, of the option; None is a single network.
        models: The only models that have it; empty for all.
        meaning: What it is, in words.

    Example:
        >>> ARMS["dropout"].options(Grid()) == ARMS["mc-dropout"].options(Grid())
        True
    """

    name: str
    settings: Callable[[Grid], tuple[Option, ...]] = field(compare=False)
    passes: int = 0
    tolerance: float = 0.0
    members: Callable[[Option], int] | None = field(default=None, compare=False)
    models: tuple[str, ...] = ()
    meaning: str = ""

    @property
    def ensemble(self) -> bool:
        """Whether networks are averaged."""
        return self.members is not None

    def networks(self, option: Option) -> int:
        """Return how many networks it trains for one run."""
        return self.members(option) if self.members else 1

    def options(self, grid: Grid) -> tuple[Option, ...]:
        """Return the options that it chooses from, as many as every other arm."""
        return draw(self.settings(grid), grid)


def _plain(**settings: float | str) -> Callable[[Grid], tuple[Option, ...]]:
    """Settings of an arm without any of its own: it chooses the weight decay."""
    return lambda grid: tuple(Option(weight_decay=decay, **settings) for decay in grid.weight_decay)  # type: ignore[arg-type]


def _dropout(locked: bool = False) -> Callable[[Grid], tuple[Option, ...]]:
    return lambda grid: tuple(Option(dropout=rate, locked=locked) for rate in grid.dropout)


def _pruned(algorithm: str, dropout: float = 0.0) -> Callable[[Grid], tuple[Option, ...]]:
    return lambda grid: tuple(
        Option(algorithm=algorithm, sparsity=sparsity, dropout=dropout) for sparsity in grid.sparsity
    )


def _narrow(grid: Grid) -> tuple[Option, ...]:
    return tuple(Option(keep=1 - sparsity) for sparsity in grid.sparsity)


def _wide(grid: Grid) -> tuple[Option, ...]:
    return tuple(Option(algorithm=DEFAULT, sparsity=sparsity, keep=1 / (1 - sparsity)) for sparsity in grid.sparsity)


def members(option: Option) -> int:
    """Return how many networks of an option have together at most the weights of one standard network, at least 1.

    Example:
        >>> [members(Option(algorithm="set", sparsity=sparsity)) for sparsity in (0.8, 0.7, 0.4)]
        [5, 3, 1]
    """
    return int(1 / option.share + 1e-9)  # 1 / (1 - 0.9) may be a hair below 10


def _several(settings: Callable[[Grid], tuple[Option, ...]]) -> Callable[[Grid], tuple[Option, ...]]:
    return lambda grid: tuple(option for option in settings(grid) if members(option) > 1)


def _arm(name: str, algorithm: str) -> Arm:
    """Return the arm of an algorithm; it chooses the sparsity from the grid unless the algorithm has its own."""
    own, meaning = ALGORITHMS[algorithm].sparsity, ALGORITHMS[algorithm].describe(RAMP)
    if name != algorithm:
        meaning = f"the library's default, “{algorithm}”: {meaning}"
    if own is None:
        return Arm(name, _pruned(algorithm), tolerance=TOLERANCE, meaning=meaning)
    return Arm(name, _plain(algorithm=algorithm, sparsity=own), meaning=meaning)


def _dense_ensemble(count: int) -> Arm:
    return Arm(
        f"dense-ensemble-x{count}",
        _plain(),
        members=lambda option: count,
        meaning=f"{count} plain networks, averaged: what as much training gives without pruning",
    )


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none", _plain(), meaning="the plain network; it may choose weight decay"),
        Arm("dropout", _dropout(), meaning="dropout while training"),
        Arm(
            "mc-dropout",
            _dropout(),
            passes=50,
            meaning="dropout, asked 50 times with dropout on; forecasts are averaged",
        ),
        Arm(
            "locked-dropout",
            _dropout(locked=True),
            models=("rnn", "lstm"),
            meaning="dropout of the same units at every row of a window",
        ),
        _arm("synaptic", DEFAULT),
        *(_arm(name, name) for name in ALGORITHMS),
        Arm(
            "synaptic-dropout",
            _pruned(DEFAULT, dropout=_LITTLE),
            tolerance=TOLERANCE,
            meaning=f"“synaptic” with dropout {_LITTLE:g}",
        ),
        Arm(
            "narrow",
            _narrow,
            tolerance=TOLERANCE,
            meaning="a dense network built with as many weights as are alive in “synaptic”",
        ),
        Arm("wide", _wide, meaning="a wider network pruned to the weights of the standard one"),
        Arm(
            "synaptic-ensemble",
            _several(_pruned(DEFAULT)),
            members=members,
            meaning="pruned networks of several seeds, averaged: as many as have the weights of one dense network",
        ),
        Arm(
            "narrow-ensemble",
            _several(_narrow),
            members=members,
            meaning="as many narrow dense networks, averaged: whether it is sparsity or averaging that helps",
        ),
        *(_dense_ensemble(count) for count in (2, 3, 5)),
        Arm("identical", _plain(repeat=1), meaning="“none” again with other seeds: the null check"),
        Arm("broken", _plain(dropout=0.99), meaning="dropout 0.99: the control that must lose"),
    )
}
"""Every arm by name, in the order of tables and legends."""
