"""What the runs support: blocks are data sets, values are means over seeds and window lengths.

Seeds, windows and window lengths of one data set are not independent evidence, so none of them is a block. The
mathematics is SciPy's and statsmodels'. Sources: Demšar (JMLR 7, 2006); Iman & Davenport (1980); Benavoli, Corani &
Mangili (JMLR 17, 2016) for Wilcoxon with Holm rather than mean-rank tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

ALPHA = 0.05
_RUN = ["dataset", "model", "length", "horizon", "seed"]


def paired(results: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the runs that ended well in every arm, and count the rows left out for their partners' sake or their own.

    Example:
        >>> rows = [("a", "rnn", arm, 7, 1, s, "ok") for arm in ("none", "synaptic") for s in (0, 1)]
        >>> table = pd.DataFrame(rows, columns=["dataset", "model", "arm", "length", "horizon", "seed", "status"])
        >>> table.loc[0, "status"] = "diverged"
        >>> kept, left_out = paired(table)
        >>> len(kept), left_out
        (2, 2)
    """
    well = results[results["status"] == "ok"]
    complete = well.groupby(_RUN)["arm"].transform("nunique") == results["arm"].nunique()
    kept = well[complete]
    return kept, len(results) - len(kept)


def blocks(results: pd.DataFrame, metric: str = "mae") -> pd.DataFrame:
    """One row a data set, one column an arm (in order of appearance): the mean of `metric` over everything else."""
    table = results.pivot_table(index="dataset", columns="arm", values=metric, aggfunc="mean", sort=False)
    return table[list(dict.fromkeys(results["arm"]))]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all arms are alike, with the correction of Iman and Davenport.

    Attributes:
        ranks: average rank of every arm, 1 is best.
        statistic: Friedman's chi-squared with k - 1 degrees of freedom, and its `p_value`.
        f_statistic: Iman and Davenport's F with (k - 1, (k - 1)(n - 1)) degrees of freedom, and its `f_p_value`.
    """

    blocks: int
    ranks: dict[str, float]
    statistic: float
    p_value: float
    f_statistic: float
    f_p_value: float


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
    if (table.nunique(axis=1) == 1).all():  # every block one big tie: nothing speaks against "all alike"
        return Friedman(n, ranks, 0.0, 1.0, 0.0, 1.0)
    statistic, p_value = stats.friedmanchisquare(*(table[arm] for arm in table))
    room = n * (k - 1) - statistic
    f = float("inf") if room <= 1e-9 * n * k else (n - 1) * statistic / room
    return Friedman(
        n, ranks, float(statistic), float(p_value), float(f), float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
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
    if table.empty or not names:
        return []
    ratios = {name: (table[arm] / table[name]).to_numpy(dtype=float) for name in names}
    p_values = [_wilcoxon(ratio) for ratio in ratios.values()]
    corrected = multipletests(p_values, method="holm")[1]
    pairs = []
    for (name, ratio), p_value, p_holm in zip(ratios.items(), p_values, corrected, strict=True):
        low, high = _interval(ratio - 1)
        pairs.append(
            Pair(
                arm,
                name,
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


def _wilcoxon(ratio: np.ndarray) -> float:
    """Two-sided signed-rank p-value of log ratios, which, unlike differences, have no unit; all ties give 1."""
    logs = np.log(ratio)
    return 1.0 if not logs.any() else float(stats.wilcoxon(logs).pvalue)


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    if len(differences) < 2:
        return None, None
    result = stats.bootstrap((differences,), np.median, method="percentile", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
