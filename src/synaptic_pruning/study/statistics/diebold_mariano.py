"""Do two forecasts of one series differ? Diebold and Mariano's test on the losses of every forecast step.

It speaks about one series only, with one pair of trained networks; what holds over data sets is in `statistics`.
Sources: Diebold & Mariano (JBES 13, 1995); Harvey, Leybourne & Newbold (IJF 13, 1997); the computation is statsmodels'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import diebold_mariano_test


@dataclass(frozen=True)
class DieboldMariano:
    """Two forecasts of one series.

    Attributes:
        steps: number of forecast targets.
        lags: autocovariances that the variance takes into account.
        difference: mean of the first forecast's losses minus those of the second; negative: the first is better.
        statistic: with Harvey's correction, to be held against Student's t with `steps - 1` degrees of freedom.
        p_value: two-sided.
        p_holm: the same after Holm's correction over the series of a family; alone it equals `p_value`.
    """

    steps: int
    lags: int
    difference: float
    statistic: float
    p_value: float
    p_holm: float


def diebold_mariano(losses: ArrayLike, other: ArrayLike, horizon: int = 1) -> DieboldMariano:
    """Compare the losses of two forecasts of the same targets.

    The variance of the mean is Newey and West's with `max(horizon - 1, ceil(steps^(1/3)))` lags: errors of forecasts
    `horizon` steps ahead overlap, and those of a network that is not perfect go together even one step ahead.

    Args:
        losses: absolute or squared errors in the order of time, shape (steps,), steps > horizon.
        other: those of the other forecast, of the same shape.
        horizon: how many steps ahead was forecast, at least 1.

    Raises:
        ValueError: the shapes differ, a loss is not finite, or there are too few steps.

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
    if np.ptp(first - second) == 0:  # no variance: either no difference at all or a certain one
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
        losses: for every series the losses of the first and of the other forecast, as `diebold_mariano` takes them.
        horizon: how many steps ahead was forecast.

    Example:
        >>> found = over_series({"a": ([1.0, 2.0, 1.5], [1.0, 2.0, 1.5]), "b": ([1.0, 3.0, 2.0], [2.0, 3.5, 2.5])})
        >>> found["a"].p_value, found["a"].p_holm >= found["b"].p_holm >= found["b"].p_value
        (1.0, True)
    """
    found = {name: diebold_mariano(first, second, horizon) for name, (first, second) in losses.items()}
    if not found:
        return {}
    corrected = multipletests([one.p_value for one in found.values()], method="holm")[1]
    return {name: replace(one, p_holm=float(p)) for (name, one), p in zip(found.items(), corrected, strict=True)}
