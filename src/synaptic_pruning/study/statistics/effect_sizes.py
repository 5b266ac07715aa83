"""Tell how large the difference of two arms is over blocks, how sure, and which blocks it rests on.

Effects are logarithms of ratios of errors, so that units cancel; results are given as relative changes. Sources: Hodges
& Lehmann (1963); Hollander, Wolfe & Chicken, Nonparametric Statistical Methods (2014), section 3.3, for the interval;
Benavoli et al. (ICML 2014; JMLR 18, 2017) for the Bayesian signed-rank test, computed by baycomp.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from baycomp import SignedRankTest
from numpy.typing import ArrayLike
from scipy import stats

from synaptic_pruning.study.statistics.blocks import CASE, log_ratios

ROPE = 0.01
"""Region of practical equivalence: errors that differ by at most 1 % count as equal."""
TOP = 5
"""Number of blocks whose share of the total effect is told."""
_SAMPLES = 10_000  # of the posterior: its probabilities are known to within 0.01
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """The size of the difference of one arm from another; negative changes mean that `arm` has the smaller errors.

    Attributes:
        arm: The arm to judge.
        other: The arm that it is compared with.
        blocks: Number of blocks.
        estimate: Hodges and Lehmann's estimate of the relative change.
        low: Lower end of its distribution-free 95 % interval; None where so few blocks allow none.
        high: Upper end of that interval.
        mean: Geometric mean of `arm / other`, minus 1.
        median: Median of `arm / other`, minus 1.
        wins: Number of blocks where `arm` has the smaller error.
        ties: Number of blocks where the errors are equal.
        losses: Number of blocks where `arm` has the larger error.
        sign_p: Two-sided sign test, without the ties.
        top_share: Share of the sum of all log ratios that the `TOP` blocks with most of it hold. It exceeds 1 where the
            other blocks together say the contrary; NaN where the sum is zero.
        better: Probability that `arm` is practically better, of the Bayesian signed-rank test with `ROPE`.
        equivalent: Probability that the arms are practically equivalent.
        worse: Probability that `arm` is practically worse.
    """

    arm: str
    other: str
    blocks: int
    estimate: float
    low: float | None
    high: float | None
    mean: float
    median: float
    wins: int
    ties: int
    losses: int
    sign_p: float
    top_share: float
    better: float
    equivalent: float
    worse: float


def effect(table: pd.DataFrame, arm: str, other: str) -> Effect:
    """Describe the difference of one arm from another.

    Args:
        table: Positive errors, one row per block, one column per arm (`block_means`), at least one row.
        arm: The column to judge.
        other: The column to compare it with.

    Raises:
        ValueError: An arm is no column of the table, the table has no rows, or an error is no positive number.

    Example:
        >>> errors = [0.9, 0.95, 0.97, 0.99, 0.8, 1.01]
        >>> found = effect(pd.DataFrame({"none": 1.0, "synaptic": errors}), "synaptic", "none")
        >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
        (-0.05, -0.2, 0.01)
        >>> found.wins, found.losses, found.sign_p, round(found.top_share, 2)
        (5, 1, 0.21875, 1.02)
    """
    logs = log_ratios(table, arm, other)
    estimate, low, high = hodges_lehmann(logs)
    wins, losses = int((logs < 0).sum()), int((logs > 0).sum())
    better, equivalent, worse = bayesian_signed_rank(logs)
    return Effect(
        arm,
        other,
        blocks=len(logs),
        estimate=math.expm1(estimate),
        low=None if low is None else math.expm1(low),
        high=None if high is None else math.expm1(high),
        mean=math.expm1(float(logs.mean())),
        median=float(np.median(np.exp(logs))) - 1,
        wins=wins,
        ties=len(logs) - wins - losses,
        losses=losses,
        sign_p=float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
        top_share=_top_share(logs),
        better=better,
        equivalent=equivalent,
        worse=worse,
    )


def hodges_lehmann(logs: ArrayLike) -> tuple[float, float | None, float | None]:
    """Return Hodges and Lehmann's estimate of the centre of differences, and its distribution-free 95 % interval.

    The estimate is the median of all Walsh averages, the means of two differences, each with itself included. The
    interval holds the shifts that Wilcoxon's exact two-sided test does not refuse.

    Args:
        logs: Differences, shape (blocks,), at least one.

    Returns:
        The estimate and the ends of the interval, None for both with fewer than six differences.

    Example:
        >>> hodges_lehmann([1.0, 2.0, 9.0])
        (3.5, None, None)
        >>> hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        (3.5, 1.0, 6.0)
    """
    values = np.asarray(logs, dtype=float)
    first, second = np.triu_indices(len(values))
    averages = np.sort((values[first] + values[second]) / 2)
    estimate = float(np.median(averages))
    refused = int(np.searchsorted(np.cumsum(_rank_sums(len(values))), (1 - _CONFIDENCE) / 2, side="right"))
    if not refused:
        return estimate, None, None
    return estimate, float(averages[refused - 1]), float(averages[-refused])


def bayesian_signed_rank(logs: ArrayLike, rope: float = ROPE) -> tuple[float, float, float]:
    """Return the probabilities that the first arm is practically better, equivalent and worse.

    It is the share of the posterior of the Bayesian signed-rank test where that answer is the most probable one for a
    pair of blocks. A pseudo-block without a difference, of weight one half, is the prior. The seed is fixed.

    Args:
        logs: Logarithms of ratios of errors, shape (blocks,).
        rope: Relative difference that counts as none, above 0.

    Example:
        >>> bayesian_signed_rank([-0.2, -0.3, -0.25, -0.4, -0.5, -0.1, -0.3, -0.2])[0] > 0.99
        True
        >>> bayesian_signed_rank([0.001, -0.002, 0.003, 0.0, -0.001, 0.002])
        (0.0, 1.0, 0.0)
    """
    if not rope > 0:
        raise ValueError(f"rope: must be above 0, got {rope}; 0.01 takes errors within 1 % as equal")
    values = np.asarray(logs, dtype=float)
    better, equivalent, worse = SignedRankTest.probs(
        np.zeros(len(values)), values, rope=math.log1p(rope), nsamples=_SAMPLES, random_state=0
    )
    return float(better), float(equivalent), float(worse)


def effects_by_dataset(runs: pd.DataFrame, arm: str, other: str) -> pd.DataFrame:
    """Return the difference of one arm from another on every data set, with what other seeds would give.

    The effect of a seed is the mean logarithm of `arm / other` over models, window lengths and horizons. The interval
    is Student's, over seeds: it holds for these data and networks of other seeds, not for other data.

    Args:
        runs: Paired runs (`paired`).
        arm: The arm to judge.
        other: The arm to compare it with.

    Returns:
        One row per data set, the best first: dataset, estimate, low and high as relative changes of the MAE; the ends
        are NaN with one seed.

    Example:
        >>> rows = [("a", "x", 0, 0.9), ("a", "x", 1, 0.8), ("a", "y", 0, 1.0), ("a", "y", 1, 1.0)]
        >>> runs = pd.DataFrame(rows, columns=["dataset", "arm", "seed", "mae"])
        >>> effects_by_dataset(runs, "x", "y").round(3).to_dict("records")
        [{'dataset': 'a', 'estimate': -0.151, 'low': -0.598, 'high': 0.793}]
    """
    cases = [*(name for name in CASE if name in runs), "seed"]
    wide = runs.pivot_table(index=cases, columns="arm", values="mae", sort=False).astype(float)
    by_seed = (wide[arm] / wide[other]).map(math.log).groupby(["dataset", "seed"], sort=False).mean()
    rows = []
    for dataset, values in by_seed.groupby("dataset", sort=False):
        mean, n = float(values.mean()), len(values)
        half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * values.std() / math.sqrt(n)) if n > 1 else math.nan
        rows.append((dataset, *(math.expm1(value) for value in (mean, mean - half, mean + half))))
    found = pd.DataFrame(rows, columns=["dataset", "estimate", "low", "high"])
    return found.sort_values("estimate", kind="stable", ignore_index=True)


def _rank_sums(n: int) -> np.ndarray:
    """Return the probabilities of all sums of positive ranks when every rank is positive or negative by chance."""
    chances = np.ones(1)
    for rank in range(1, n + 1):
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return chances


def _top_share(logs: np.ndarray) -> float:
    total = float(logs.sum())
    if total == 0:
        return math.nan
    return float(np.sort(logs * math.copysign(1.0, total))[-TOP:].sum()) / abs(total)
