"""Errors in original units, and against what costs nothing."""

from __future__ import annotations

import numpy as np

from .baselines import persistence
from .series import Array
from .windows import ForecastingTask


def score(task: ForecastingTask, forecasts: Array) -> dict[str, float]:
    """Score ``forecasts`` (n, horizon), in original units, of the test windows.

    Means run over all origins and steps whose truth is known. ``mae`` and ``rmse`` are in original units;
    ``mase`` is the MAE divided by that of the seasonal naive forecast within the training part (Hyndman &
    Koehler 2006); ``skill`` is 1 - MAE / MAE of persistence on the same test windows, 0 for persistence
    itself and negative when it wins. A missing forecast makes every number NaN, and a denominator of zero its
    own.

    Raises:
        ValueError: forecasts of another shape.
    """
    truth = task.truth(task.test)
    if forecasts.shape != truth.shape:
        raise ValueError(f"forecasts have shape {forecasts.shape}; the test windows need {truth.shape}.")
    known = ~np.isnan(truth)
    errors = (forecasts - truth)[known]
    mae = float(np.abs(errors).mean())
    naive = float(np.abs((persistence(task, task.test) - truth)[known]).mean())
    return {
        "mae": mae,
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mase": _ratio(mae, _seasonal_naive_mae(task)),
        "skill": 1.0 - _ratio(mae, naive),
    }


def _seasonal_naive_mae(task: ForecastingTask) -> float:
    target, season = task.series.values[: task.cuts[0], 0], task.series.season
    changes = np.abs(target[season:] - target[:-season])
    changes = changes[~np.isnan(changes)]
    return float(changes.mean()) if len(changes) else 0.0


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else float("nan")
