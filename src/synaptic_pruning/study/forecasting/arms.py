"""The arms of a comparison: how networks are trained, what each arm may choose from, and how it is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field

import synaptic_pruning as sp

_AT_ONCE = 1e-6
"""A progress that the first event is past: nothing is swapped."""

RECIPES: dict[str, Callable[[float, int], sp.Rule]] = {
    "growing": lambda sparsity, seed: sp.SET(sparsity, seed=seed, scaled_start=True),
    "magnitude": lambda sparsity, seed: sp.ToSparsity(sp.cubic(sparsity, begin=0.3, end=0.8)),
    "one-shot": lambda sparsity, seed: sp.ToSparsity(sp.one_shot(sparsity, at=0.3)),
    "random": lambda sparsity, seed: sp.SET(sparsity, end=_AT_ONCE, seed=seed, scaled_start=True),
    "rigl": lambda sparsity, seed: sp.RigL(sparsity, seed=seed, scaled_start=True),
    "granet": lambda sparsity, seed: sp.GraNet(sparsity, seed=seed),
    "disuse": lambda sparsity, seed: sp.Disuse(),
    "survival": lambda sparsity, seed: sp.Survival(),
    "vos2025": lambda sparsity, seed: sp.vos2025(initial=0.3, final=sparsity, warmup=2 / 20),
}
"""Rules by name, each a function of the final sparsity, which of some is an outcome, and the seed of the training."""

SYNAPTIC = "growing"
"""The recipe of the arm "synaptic": few weights throughout, the weakest making room for new ones."""

TOLERANCE = 0.01
"""Of arms that remove weights: one percent of validation error buys the sparser network."""


@dataclass(frozen=True)
class Regime:
    """How one network is trained. Arms with an equal regime share one training.

    Attributes:
        dropout: probability of the model's dropout layers while training, in [0, 1).
        weight_decay: of Adam, at least 0.
        recipe: a name of `RECIPES`, or "" to prune nothing.
        sparsity: final sparsity of the recipe, 0 where it is an outcome; without a recipe, the share of weights that
            the network is built without, so that a narrow dense network stands beside a sparse one.
        repeat: other initial weights and another data order for the same seed, for a null check.
    """

    dropout: float = 0.0
    weight_decay: float = 0.0
    recipe: str = ""
    sparsity: float = 0.0
    repeat: int = 0

    @property
    def prunes(self) -> bool:
        """Whether a pruner runs along."""
        return bool(self.recipe)

    @property
    def rate(self) -> float:
        """Factor on the learning rate: 2 for networks with few weights throughout, sparse or narrow, otherwise 1.

        A step of Adam changes what a unit puts out the more, the more inputs it has, so that units with fewer want a
        higher rate: in theory 1 / (width · density) (Dey et al. 2024, arXiv 2405.15743). On the development sets sparse
        networks do better at 2 and 4 than at 1 and 8, dense ones do not (docs/recipe.md); 2 is the cautious one.

        Example:
            >>> Regime(recipe="growing", sparsity=0.8).rate, Regime(sparsity=0.8).rate, Regime().rate
            (2.0, 2.0, 1.0)
        """
        rule = self.rule()
        few = self.sparsity > 0 if rule is None else rule.ramp_end == 0
        return 2.0 if few else 1.0

    @property
    def setting(self) -> str:
        """What was chosen, in a few characters, "" where there is nothing to choose.

        Example:
            >>> Regime(recipe="growing", sparsity=0.8).setting, Regime(dropout=0.1).setting, Regime().setting
            ('sparsity 0.8', 'dropout 0.1', '')
        """
        values = {"dropout": self.dropout, "weight decay": self.weight_decay, "sparsity": self.sparsity}
        return ", ".join(f"{name} {value:.3g}" for name, value in values.items() if value)

    def rule(self, seed: int = 0) -> sp.Rule | None:
        """Return a fresh rule, or None where nothing is pruned."""
        return RECIPES[self.recipe](self.sparsity, seed) if self.recipe else None


@dataclass(frozen=True)
class Grid:
    """What arms choose from, on validation data only; equally long grids are equal tuning budgets.

    Attributes:
        dropout: rates in (0, 1).
        sparsity: final sparsities in (0, 1), for every arm that removes weights.
        weight_decay: factors above 0.
    """

    dropout: tuple[float, ...] = (0.3,)
    sparsity: tuple[float, ...] = (0.8,)
    weight_decay: tuple[float, ...] = (1e-4,)


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: what `--arms` and the results call it.
        candidates: the regimes it chooses from, given the grid.
        passes: stochastic forward passes whose forecasts are averaged; 0 is one pass without dropout.
        tolerance: the sparsest setting whose validation error is above the smallest by at most this share is taken.
        ensemble: whether networks of different seeds are averaged, as many as `members` says.
        meaning: what it is, in words.

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


def _pruned(recipe: str) -> Callable[[Grid], tuple[Regime, ...]]:
    return lambda grid: tuple(Regime(recipe=recipe, sparsity=sparsity) for sparsity in grid.sparsity)


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


def _table(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


ARMS: dict[str, Arm] = _table(
    Arm("none", _fixed(), meaning="the plain network"),
    Arm("dropout", _dropout, meaning="dropout while training"),
    Arm("mc-dropout", _dropout, passes=50, meaning="dropout, asked 50 times with dropout on; forecasts are averaged"),
    Arm(
        "synaptic",
        _pruned(SYNAPTIC),
        tolerance=TOLERANCE,
        meaning="no dropout; the network is sparse while it trains, prunes its weakest weights and grows others",
    ),
    Arm("vos2025", _fixed(recipe="vos2025", sparsity=0.7), meaning="as published, 30 % to 70 %"),
    Arm(
        "magnitude",
        _pruned("magnitude"),
        tolerance=TOLERANCE,
        meaning="the smallest weights go on a cubic ramp from 30 % to 80 % of training: the library's default",
    ),
    Arm(
        "rigl",
        _pruned("rigl"),
        tolerance=TOLERANCE,
        meaning="as “synaptic”, but the others grow where the gradient is largest",
    ),
    Arm(
        "granet",
        _pruned("granet"),
        tolerance=TOLERANCE,
        meaning="dense at the start, pruned on a ramp to half of training, with the swaps of “rigl” on top",
    ),
    Arm(
        "disuse",
        _fixed(recipe="disuse"),
        meaning="use it or lose it: connections idle five windows in a row go; the sparsity is an outcome",
    ),
    Arm(
        "survival", _fixed(recipe="survival"), meaning="as “disuse”, by a score that leaks; the sparsity is an outcome"
    ),
    Arm(
        "one-shot",
        _pruned("one-shot"),
        tolerance=TOLERANCE,
        meaning="a single cut by magnitude at 30 % of training",
    ),
    Arm(
        "random",
        _pruned("random"),
        tolerance=TOLERANCE,
        meaning="random weights removed where “synaptic” starts, and none exchanged",
    ),
    Arm(
        "narrow",
        _narrow,
        tolerance=TOLERANCE,
        meaning="a dense network built with as many weights as survive in “synaptic”",
    ),
    Arm(
        "weight-decay",
        lambda grid: tuple(Regime(weight_decay=factor) for factor in grid.weight_decay),
        meaning="the plain network with weight decay",
    ),
    Arm(
        "synaptic-ensemble",
        _several(_pruned(SYNAPTIC)),
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
"""Every known arm by name, in the order of tables and legends."""
