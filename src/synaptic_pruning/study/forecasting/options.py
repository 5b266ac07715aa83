"""Define an option, one way to train a network, and draw equally many for every arm from a declared space."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict, cast

import synaptic_pruning as sp
from synaptic_pruning.study.algorithms import ALGORITHMS, Ramp

RAMP = Ramp(begin=0.3, end=0.8)
"""Where studies on series prune, unless an algorithm has a ramp of its own."""


class OptionSettings(TypedDict):
    """An `Option` as records and hashes hold it."""

    rate: float
    dropout: float
    locked: bool
    weight_decay: float
    algorithm: str
    sparsity: float
    keep: float
    repeat: int


@dataclass(frozen=True)
class Option:
    """One way to train a network. Arms with an equal option share one training.

    Attributes:
        rate: Factor on the learning rate of the model, above 0.
        dropout: Probability of the model's dropout layers while training, in [0, 1).
        locked: Whether a recurrent network drops the same units at every row of a window.
        weight_decay: AdamW's, at least 0.
        algorithm: A name of `ALGORITHMS`, or "" to prune nothing.
        sparsity: Final sparsity of the algorithm, in [0, 1); 0 where it is an outcome.
        keep: Weights that the network is built with, relative to the standard one.
        repeat: Counts repetitions with other initial weights and another data order, for a null check.
    """

    rate: float = 1.0
    dropout: float = 0.0
    locked: bool = False
    weight_decay: float = 0.0
    algorithm: str = ""
    sparsity: float = 0.0
    keep: float = 1.0
    repeat: int = 0

    @property
    def prunes(self) -> bool:
        """Whether a pruner runs along."""
        return bool(self.algorithm)

    @property
    def share(self) -> float:
        """Weights that are left in the end, relative to the standard network.

        Example:
            >>> Option(algorithm="set", sparsity=0.75).share, Option(keep=0.25).share, Option().share
            (0.25, 0.25, 1.0)
        """
        return self.keep * (1 - self.sparsity)

    @property
    def text(self) -> str:
        """Its settings in a few characters, "" for the plain network.

        Example:
            >>> Option(rate=2, algorithm="set", sparsity=0.8).text, Option(dropout=0.1).text, Option().text
            ('rate 2, sparsity 0.8', 'dropout 0.1', '')
        """
        values = {
            "rate": self.rate if self.rate != 1 else 0,
            "dropout": self.dropout,
            "weight decay": self.weight_decay,
            "sparsity": self.sparsity,
            "keep": self.keep if self.keep != 1 else 0,
        }
        return ", ".join(f"{name} {value:.3g}" for name, value in values.items() if value)

    def rule(self, seed: int = 0) -> sp.Rule | float | None:
        """Return a fresh rule or the sparsity of the default one; None where nothing is pruned."""
        return ALGORITHMS[self.algorithm].rule(self.sparsity, seed, RAMP) if self.algorithm else None

    def to_dict(self) -> OptionSettings:
        """Return the settings as records and hashes hold them."""
        return cast(OptionSettings, asdict(self))


@dataclass(frozen=True)
class Grid:
    """The space that options are drawn from, and how many every arm gets.

    Attributes:
        rate: Factors on the learning rate, for every arm.
        dropout: Dropout rates in [0, 1).
        sparsity: Final sparsities in (0, 1), for every arm that prunes to a chosen one.
        weight_decay: AdamW's, at least 0, for arms that have no other setting.
        options: Number of options of every arm; with one there is nothing to choose.
    """

    rate: tuple[float, ...] = (1.0,)
    dropout: tuple[float, ...] = (0.3,)
    sparsity: tuple[float, ...] = (0.8,)
    weight_decay: tuple[float, ...] = (0.0,)
    options: int = 1


def draw(settings: Sequence[Option], grid: Grid) -> tuple[Option, ...]:
    """Return `grid.options` points of (learning rate × settings of an arm), by one rule for all arms.

    The rule walks down the diagonals of the table of rates and settings. Each rate is then met equally often, give or
    take one, and so is each setting. No point occurs twice.

    Args:
        settings: What the arm chooses from beside the rate.
        grid: The space.

    Returns:
        The options; fewer than `grid.options` where the space has fewer points.

    Example:
        >>> found = draw([Option(dropout=0.1), Option(dropout=0.5)], Grid(rate=(1, 3), options=3))
        >>> [option.text for option in found]
        ['dropout 0.1', 'rate 3, dropout 0.5', 'dropout 0.5']
    """
    rates, own = len(grid.rate), len(settings)
    again = math.lcm(rates, own)
    return tuple(
        replace(settings[(place + place // again) % own], rate=grid.rate[place % rates])
        for place in range(min(grid.options, rates * own))
    )
