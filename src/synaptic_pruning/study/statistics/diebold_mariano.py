"""Compare two forecasts of one series by Diebold and Mariano's test on the losses of every step.

The outcome holds for one series and one pair of trained networks only; `rank_tests` compares over data sets.
Sources: Diebold & Mariano (JBES 13, 1995); Harvey, Leybourne & Newbold (IJF 13, 1997); the computation is statsmodels'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.tsa.stattools import diebold_mariano_test

from synaptic_pruning.study.statistics.rank_tests import holm


@dataclass(frozen=True)
class DieboldMariano:
    """The outcome of the test on one series.

    Attributes:
        steps: Number of forecast targets.
        lags: Number of autocovariances in the variance.
        difference: Mean of the first forecast's losses minus those of the second; negative: the first is better.
        statistic: Statistic with Harvey's correction; Student's t with `steps - 1` degrees of freedom.
        p_value: Two-sided p-value.
        p_holm: The p-value after Holm's correction over the series of a family; for one series equal to `p_value`.
    """

    steps: int
    lags: int
    difference: float
    statistic: float
    p_value: float
    p_holm: float


def diebold_mariano(losses: ArrayLike, other: ArrayLike, horizon: int = 1) -> DieboldMariano:
    """Compare the losses of two forecasts of the same targets.

    The variance of the mean is Newey and West's with `max(horizon - 1, ceil(steps^(1/3)))` lags. Errors of forecasts
    `horizon` steps ahead overlap, and those of an imperfect network are correlated even one step ahead.

    Args:
        losses: Absolute or squared errors in the order of time, shape (steps,), steps > horizon.
        other: Losses of the other forecast, of the same shape.
        horizon: Number of steps ahead that were forecast, at least 1.

    Raises:
        ValueError: The shapes differ, a loss is not finite, or there are too few steps.

    Example:
        >>> found = diebold_mariano([1.0, 2.0, 1.0, 2.0], [1.5, 3.0, 1.5, 3.0])
        >>> found.difference, found.lags
        (-0.75, 2)
    """
    first, second = np.asarray(losses, dtype=float), np.asarray(other, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"losses and other: must be two series of one length, got {first.shape} and {second.shape}")
    if horizon < 1 or len(first) <= max(horizon, 2):
        raise ValueError(f"horizon: must be at least 1 and below the {len(first)} steps (at least 3), got {horizon}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("losses and other: must be finite; leave out the steps without a truth in both")
    steps, difference = len(first), float(np.mean(first - second))
    lags = max(horizon - 1, int(np.ceil(steps ** (1 / 3))))
    if np.ptp(first - second) == 0:  # no variance: the difference is zero or certain
        statistic = 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
        p_value = 1.0 if difference == 0 else 0.0
    else:
        result = diebold_mariano_test(
            np.zeros(steps),
            first,
            second,
            lags=lags,
            criterion=lambda _, loss: loss,
            harvey_adj=True,
            horizon=horizon,
        )
        statistic, p_value = float(result.statistic), float(result.pvalue)
    return DieboldMariano(steps, lags, difference, statistic, p_value, p_value)


def over_series(losses: Mapping[str, tuple[ArrayLike, ArrayLike]], horizon: int = 1) -> dict[str, DieboldMariano]:
    """Compare two forecasts on several series, Holm-corrected over them.

    Args:
        losses: For every series the losses of the first and of the other forecast; see `diebold_mariano`.
        horizon: Number of steps ahead that were forecast.

    Example:
        >>> found = over_series({"a": ([1.0, 2.0, 1.5], [1.0, 2.0, 1.5]), "b": ([1.0, 3.0, 2.0], [2.0, 3.5, 2.5])})
        >>> found["a"].p_value, found["a"].p_holm >= found["b"].p_holm >= found["b"].p_value
        (1.0, True)
    """
    found = {name: diebold_mariano(first, second, horizon) for name, (first, second) in losses.items()}
    if not found:
        return {}
    corrected = holm([one.p_value for one in found.values()])
    return {name: replace(one, p_holm=float(p)) for (name, one), p in zip(found.items(), corrected, strict=True)}
