"""Make intervals around forecasts from errors on rows that were not trained on, and count how often they hold."""

import math

import numpy as np

from synaptic_pruning.tasks.forecasting import Array


def half_widths(errors: Array, level: float) -> Array:
    """Return half the width of the split-conformal interval of every step ahead.

    It is the ⌈(n + 1) · level⌉-th smallest of the n absolute errors of that step.

    Args:
        errors: Forecast minus truth, shape (n, horizon); NaN where the truth is unknown.
        level: Share of truths that intervals are to hold, in (0, 1).

    Returns:
        Half widths, shape (horizon,); NaN where there are too few errors for the level.

    Example:
        >>> half_widths(np.array([[1.0], [-3.0], [2.0], [0.5]]), 0.6), half_widths(np.array([[1.0]]), 0.9)
        (array([2.]), array([nan]))
    """
    found = np.full(errors.shape[1], np.nan)
    for step, column in enumerate(errors.T):
        sizes = np.sort(np.abs(column[~np.isnan(column)]))
        rank = math.ceil((len(sizes) + 1) * level - 1e-9)
        if rank <= len(sizes):
            found[step] = sizes[rank - 1]
    return found


def coverage(errors: Array, widths: Array) -> float | None:
    """Return the share of truths within the intervals, None where there is no interval or no truth.

    Args:
        errors: Forecast minus truth, shape (n, horizon); NaN where the truth is unknown.
        widths: Half widths, shape (horizon,); NaN where there is none.

    Example:
        >>> coverage(np.array([[1.0, 5.0], [-3.0, np.nan]]), np.array([2.0, 6.0]))
        0.6666666666666666
    """
    counted = ~np.isnan(errors) & ~np.isnan(widths)
    within = np.abs(errors) <= widths
    return float(within[counted].mean()) if counted.any() else None
