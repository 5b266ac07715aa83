"""What the runs support: ranks, tests and differences on a table of blocks × arms.

The mathematics is SciPy's and statsmodels'. Sources: Demšar (JMLR 7, 2006); Iman & Davenport (1980); Benavoli, Corani &
Mangili (JMLR 17, 2016) for Wilcoxon with Holm rather than mean-rank tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from synaptic_pruning.study.statistics.blocks import blocks as blocks
from synaptic_pruning.study.statistics.blocks import paired as paired

ALPHA = 0.05


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all arms are alike, with the correction of Iman and Davenport.

    Attributes:
        ranks: average rank of every arm, 1 is best.
        statistic: Friedman's chi-squared with k - 1 degrees of freedom, and its `p_value`.
        f_statistic: Iman and Davenport's F with (k - 1, (k - 1)(n - 1)) degrees of freedom, and its `f_p_value`.
        concordance: Kendall's W, from 0 (the blocks rank the arms at random) to 1 (all blocks agree).
        smallest_p: the exact probability, when all arms are alike, that all blocks agree: no p-value can honestly be
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
        """Whether any outcome on so few blocks could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def significant(self) -> bool:
        """Whether this outcome did, by Iman and Davenport's F."""
        return self.can_be_significant and self.f_p_value < ALPHA


def average_ranks(table: pd.DataFrame) -> dict[str, float]:
    """Average rank of every column over the rows; the smallest value of a row has rank 1, ties share.

    Example:
        >>> average_ranks(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 2.0]}))
        {'a': 1.25, 'b': 1.75}
    """
    ranks = table.rank(axis=1).mean()
    return {str(arm): float(rank) for arm, rank in ranks.items()}


def friedman(table: pd.DataFrame) -> Friedman | None:
    """Friedman's test on a table of blocks × arms; None when there are fewer than two blocks or three arms."""
    n, k = table.shape
    if n < 2 or k < 3:
        return None
    ranks = average_ranks(table)
    least = float(math.factorial(k)) ** (1 - n)
    if (table.nunique(axis=1) == 1).all():  # every block one big tie: nothing speaks against "all alike"
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
    """One arm against another over the data sets.

    Attributes:
        difference: median over data sets of `arm / other - 1`; negative means `arm` has the smaller error.
        low: lower end of the 95 % bootstrap interval of that median over data sets, None with one data set.
        high: its upper end.
        wins: data sets where `arm` has the smaller error; `losses` and `ties` likewise.
        p_value: two-sided Wilcoxon signed-rank test on the logarithm of `arm / other`.
        p_holm: the same after Holm's correction over all pairs of the family.
        smallest_p: the smallest `p_holm` that this number of data sets and pairs could have given.
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
        """Whether any outcome on so few data sets could have reached `ALPHA`."""
        return self.smallest_p < ALPHA

    @property
    def significant(self) -> bool:
        """Whether this outcome did."""
        return self.can_be_significant and self.p_holm < ALPHA


def against(table: pd.DataFrame, arm: str, others: Sequence[str] | None = None) -> list[Pair]:
    """Compare one arm with every other on a table of blocks × arms, Holm-corrected over these pairs.

    Args:
        table: positive errors, one row a data set, one column an arm.
        arm: the column to judge.
        others: the columns to judge it against; all others when None.

    Example:
        >>> table = pd.DataFrame({"none": [1.0, 2.0, 4.0], "synaptic": [0.9, 1.9, 4.2]})
        >>> pair, = against(table, "synaptic")
        >>> round(pair.difference, 3), pair.wins, pair.losses, pair.p_value, pair.can_be_significant
        (-0.05, 2, 1, 0.5, False)
    """
    names = [str(c) for c in table if c != arm] if others is None else list(others)
    return _family(table, [(arm, name) for name in names])


def all_pairs(table: pd.DataFrame) -> list[Pair]:
    """Compare every two arms of a table of blocks × arms, Holm-corrected over all these pairs.

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
    corrected = multipletests(p_values, method="holm")[1]
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


def smallest_p(n: int, comparisons: int) -> float:
    """The smallest two-sided signed-rank p-value of `n` data sets after Holm's correction over `comparisons`.

    Example:
        >>> smallest_p(3, 3), smallest_p(7, 3)
        (0.75, 0.046875)
    """
    return min(1.0, comparisons * 2.0 ** (1 - n))


def smallest_sample(comparisons: int) -> int:
    """How many data sets it takes before any outcome can be significant.

    Example:
        >>> smallest_sample(1), smallest_sample(3), smallest_sample(6)
        (6, 7, 8)
    """
    return next(n for n in range(1, 64) if smallest_p(n, comparisons) < ALPHA)


def wilcoxon(logs: np.ndarray, alternative: Literal["two-sided", "less"] = "two-sided") -> float:
    """Signed-rank p-value of log ratios, which, unlike differences, have no unit; all ties give 1."""
    return 1.0 if not logs.any() else float(stats.wilcoxon(logs, alternative=alternative).pvalue)


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    if len(differences) < 2:
        return None, None
    result = stats.bootstrap((differences,), np.median, method="percentile", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
