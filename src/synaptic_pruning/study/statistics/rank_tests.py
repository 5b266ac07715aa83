"""Compute ranks, tests and relative differences on a table of blocks × arms.

The mathematics is SciPy's. Sources: Demšar (JMLR 7, 2006); Iman & Davenport (1980); Benavoli, Corani & Mangili (JMLR
17, 2016) for Wilcoxon with Holm rather than mean-rank tests; Holm (Scandinavian Journal of Statistics 6, 1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from synaptic_pruning.study.statistics.blocks import log_ratios

ALPHA = 0.05
"""Level of every test."""
_NULL_CHECKS = 20  # with fewer, one alarm more or less says nothing


@dataclass(frozen=True)
class Friedman:
    """The outcome of Friedman's test that all arms are alike, with the correction of Iman and Davenport.

    Attributes:
        blocks: Number of blocks, n.
        ranks: Average rank of each of the k arms; 1 is best.
        statistic: Friedman's chi-squared with k - 1 degrees of freedom.
        p_value: The p-value of `statistic`.
        f_statistic: Iman and Davenport's F with (k - 1, (k - 1)(n - 1)) degrees of freedom.
        f_p_value: The p-value of `f_statistic`.
        concordance: Kendall's W, from 0 (the blocks rank the arms at random) to 1 (all blocks agree).
        smallest_p: The exact probability, when all arms are alike, that all blocks agree. No honest p-value is
            smaller, whatever the two approximations say.
    """

    blocks: int
    ranks: dict[str, float]
    statistic: float
    p_value: float
    f_statistic: float
    f_p_value: float
    concordance: float
    smallest_p: float

    @property
    def can_be_significant(self) -> bool:
        """Return whether any outcome on so few blocks could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def significant(self) -> bool:
        """Return whether this outcome reached `ALPHA` by Iman and Davenport's F."""
        return self.can_be_significant and self.f_p_value < ALPHA


def average_ranks(table: pd.DataFrame) -> dict[str, float]:
    """Return the average rank of every column; the smallest value of a row has rank 1, ties share their ranks.

    Example:
        >>> average_ranks(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 2.0]}))
        {'a': 1.25, 'b': 1.75}
    """
    ranks = table.rank(axis=1).mean()
    return {str(arm): float(rank) for arm, rank in ranks.items()}


def friedman(table: pd.DataFrame) -> Friedman | None:
    """Compute Friedman's test.

    Args:
        table: Errors, one row per block, one column per arm.

    Returns:
        The outcome; None with fewer than two blocks or three arms.
    """
    n, k = table.shape
    if n < 2 or k < 3:
        return None
    ranks = average_ranks(table)
    least = float(math.factorial(k)) ** (1 - n)
    if (table.nunique(axis=1) == 1).all():  # all arms tie on every block
        return Friedman(n, ranks, 0.0, 1.0, 0.0, 1.0, 0.0, least)
    statistic, p_value = stats.friedmanchisquare(*(table[arm] for arm in table))
    room = n * (k - 1) - statistic
    f = float("inf") if room <= 1e-9 * n * k else (n - 1) * statistic / room
    return Friedman(
        n,
        ranks,
        float(statistic),
        float(p_value),
        float(f),
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        concordance=float(statistic) / (n * (k - 1)),
        smallest_p=least,
    )


@dataclass(frozen=True)
class Pair:
    """The comparison of one arm with another over blocks.

    Attributes:
        arm: The arm to judge.
        other: The arm that it is compared with.
        blocks: Number of blocks.
        difference: Median over blocks of `arm / other - 1`; negative means that `arm` has the smaller error.
        low: Lower end of the 95 % bootstrap interval of that median over blocks; None with one block.
        high: Upper end of that interval; None with one block.
        wins: Number of blocks where `arm` has the smaller error.
        ties: Number of blocks where the errors are equal.
        losses: Number of blocks where `arm` has the larger error.
        p_value: Two-sided Wilcoxon signed-rank test on the logarithm of `arm / other`.
        p_holm: The p-value after Holm's correction over all pairs of the family.
        smallest_p: The smallest `p_holm` that this number of blocks and pairs could have given.
    """

    arm: str
    other: str
    blocks: int
    difference: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    p_value: float
    p_holm: float
    smallest_p: float

    @property
    def can_be_significant(self) -> bool:
        """Return whether any outcome on so few blocks could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def significant(self) -> bool:
        """Return whether this outcome reached `ALPHA`."""
        return self.can_be_significant and self.p_holm < ALPHA


def against(table: pd.DataFrame, arm: str, others: Sequence[str] | None = None) -> list[Pair]:
    """Compare one arm with others, Holm-corrected over these pairs.

    Args:
        table: Positive errors, one row per block, one column per arm.
        arm: The column to judge.
        others: The columns to compare it with; by default all others.

    Example:
        >>> table = pd.DataFrame({"none": [1.0, 2.0, 4.0], "synaptic": [0.9, 1.9, 4.2]})
        >>> pair, = against(table, "synaptic")
        >>> round(pair.difference, 3), pair.wins, pair.losses, pair.p_value, pair.can_be_significant
        (-0.05, 2, 1, 0.5, False)
    """
    names = [str(c) for c in table if c != arm] if others is None else list(others)
    return _family(table, [(arm, name) for name in names])


def all_pairs(table: pd.DataFrame) -> list[Pair]:
    """Compare every two arms, Holm-corrected over all these pairs.

    Args:
        table: Positive errors, one row per block, one column per arm.

    Example:
        >>> table = pd.DataFrame({"none": [1.0, 2.0], "dropout": [0.9, 1.9], "synaptic": [0.8, 1.7]})
        >>> [(pair.arm, pair.other, pair.losses) for pair in all_pairs(table)]
        [('none', 'dropout', 2), ('none', 'synaptic', 2), ('dropout', 'synaptic', 2)]
    """
    return _family(table, list(combinations([str(arm) for arm in table], 2)))


def _family(table: pd.DataFrame, names: Sequence[tuple[str, str]]) -> list[Pair]:
    if table.empty or not names:
        return []
    ratios = [(table[arm] / table[other]).to_numpy(dtype=float) for arm, other in names]
    p_values = [wilcoxon(np.log(ratio)) for ratio in ratios]
    corrected = holm(p_values)
    pairs = []
    for (arm, other), ratio, p_value, p_holm in zip(names, ratios, p_values, corrected, strict=True):
        low, high = _interval(ratio - 1)
        pairs.append(
            Pair(
                arm,
                other,
                blocks=len(ratio),
                difference=float(np.median(ratio - 1)),
                low=low,
                high=high,
                wins=int((ratio < 1).sum()),
                ties=int((ratio == 1).sum()),
                losses=int((ratio > 1).sum()),
                p_value=p_value,
                p_holm=float(p_holm),
                smallest_p=smallest_p(len(table), len(names)),
            )
        )
    return pairs


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return the p-values of one family of tests after Holm's correction, in their order.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def smallest_p(n: int, comparisons: int) -> float:
    """Return the smallest two-sided signed-rank p-value of `n` blocks after Holm's correction over `comparisons`.

    Example:
        >>> smallest_p(3, 3), smallest_p(7, 3)
        (0.75, 0.046875)
    """
    return min(1.0, comparisons * 2.0 ** (1 - n))


def smallest_sample(comparisons: int) -> int:
    """Return how many blocks it takes before any outcome can be significant.

    Example:
        >>> smallest_sample(1), smallest_sample(3), smallest_sample(6)
        (6, 7, 8)
    """
    return next(n for n in range(1, 64) if smallest_p(n, comparisons) < ALPHA)


def wilcoxon(logs: np.ndarray, alternative: Literal["two-sided", "less"] = "two-sided") -> float:
    """Return the signed-rank p-value of log ratios, which have no unit; all ties give 1."""
    return 1.0 if not logs.any() else float(stats.wilcoxon(logs, alternative=alternative).pvalue)


@dataclass(frozen=True)
class FalseAlarms:
    """The outcome of the null check, repeated.

    Attributes:
        repeats: Number of comparisons of an arm with itself.
        alarms: Number of them with a p-value below the level.
        largest: Largest absolute median over blocks of `arm / other - 1` among them: what chance alone makes.
        most_wins: Largest number of blocks that one of two equal arms won.
        blocks: Number of blocks.
    """

    repeats: int
    alarms: int
    largest: float
    most_wins: int
    blocks: int

    @property
    def share(self) -> float:
        """Return the share of false alarms; the level is what may be expected."""
        return self.alarms / self.repeats


def false_alarms(table: pd.DataFrame, alpha: float = ALPHA) -> FalseAlarms:
    """Repeat the null check: compare every two columns, which are one arm trained again with other seeds.

    The comparisons share columns, so that their share of alarms varies more than that of as many separate studies; its
    expectation is the same.

    Args:
        table: Positive errors, one row per block, one column per repeat; seven columns make 21 comparisons.
        alpha: Level of each test, without a correction, in (0, 1).

    Raises:
        ValueError: There are fewer than 20 comparisons, or a value is out of range.

    Example:
        >>> errors = np.exp(np.random.default_rng(0).normal(0, 0.1, (12, 7)))
        >>> found = false_alarms(pd.DataFrame(errors))
        >>> found.repeats, found.alarms
        (21, 0)
    """
    names = list(combinations(table.columns, 2))
    if len(names) < _NULL_CHECKS:
        raise ValueError(
            f"table: {table.shape[1]} repeats of an arm make {len(names)} comparisons, too few for a share of false "
            "alarms; give at least 7 repeats, which make 21"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: must lie between 0 and 1, got {alpha}")
    pairs = [log_ratios(table, arm, other) for arm, other in names]
    return FalseAlarms(
        repeats=len(pairs),
        alarms=sum(wilcoxon(logs) < alpha for logs in pairs),
        largest=max(abs(float(np.median(np.expm1(logs)))) for logs in pairs),
        most_wins=max(max(int((logs < 0).sum()), int((logs > 0).sum())) for logs in pairs),
        blocks=len(table),
    )


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    if len(differences) < 2:
        return None, None
    result = stats.bootstrap((differences,), np.median, method="percentile", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
