"""The arms of a comparison: how a network is trained, and how the trained network is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Regime:
    """How a network is trained. Arms with an equal regime share one training.

    Attributes:
        dropout: probability of the model's dropout layers while training, in [0, 1).
        prune: whether a `SynapticPruner` with its default recipe runs along.
    """

    dropout: float = 0.0
    prune: bool = False


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    Attributes:
        name: what `--arms` and the results call it.
        regime: how its network is trained.
        passes: stochastic forward passes whose forecasts are averaged; 0 is one pass without dropout.
        meaning: what it is, in words.

    Example:
        >>> ARMS["dropout"].regime == ARMS["mc-dropout"].regime
        True
    """

    name: str
    regime: Regime
    passes: int = 0
    meaning: str = ""


def _table(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


ARMS: dict[str, Arm] = _table(
    Arm("none", Regime(), meaning="the plain network"),
    Arm("dropout", Regime(dropout=0.3), meaning="dropout 0.3 while training"),
    Arm(
        "mc-dropout",
        Regime(dropout=0.3),
        passes=50,
        meaning="the network of “dropout”, asked 50 times with dropout on; the forecasts are averaged",
    ),
    Arm("synaptic", Regime(prune=True), meaning="no dropout; the network prunes itself while it trains"),
)
"""Every known arm by name, in the order of tables and legends."""
