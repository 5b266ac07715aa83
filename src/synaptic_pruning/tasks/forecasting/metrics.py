"""Errors in original units, and against what costs nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synaptic_pruning.tasks.forecasting.baselines import persistence
from synaptic_pruning.tasks.forecasting.data.series import Array
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask


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
    return scores(task.truth(task.test), forecasts, denominators(task))


def denominators(task: ForecastingTask) -> dict[str, float]:
    """Return what errors are divided by: the MAE of persistence in the test part, of seasonal naive in training."""
    return {
        "persistence": mean_absolute_error(task.truth(task.test), persistence(task, task.test)),
        "seasonal naive": _seasonal_naive_mae(task),
    }


def scores(truth: Array, forecasts: Array, divided_by: Mapping[str, float]) -> dict[str, float]:
    """Do what `score` does where the task is no longer at hand, given its `denominators`.

    Raises:
        ValueError: forecasts of another shape than the truth.

    >>> scores(np.array([[1.0], [np.nan]]), np.array([[3.0], [5.0]]), {"persistence": 4.0, "seasonal naive": 1.0})
    {'mae': 2.0, 'rmse': 2.0, 'mase': 2.0, 'skill': 0.5}
    """
    if forecasts.shape != truth.shape:
        raise ValueError(f"forecasts have shape {forecasts.shape}; the test windows need {truth.shape}.")
    errors = (forecasts - truth)[~np.isnan(truth)]
    mae = float(np.abs(errors).mean())
    return {
        "mae": mae,
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mase": _ratio(mae, divided_by["seasonal naive"]),
        "skill": 1.0 - _ratio(mae, divided_by["persistence"]),
    }


def mean_absolute_error(truth: Array, forecasts: Array) -> float:
    """Return the mean absolute error over the known truth."""
    return float(np.abs(forecasts - truth)[~np.isnan(truth)].mean())


def _seasonal_naive_mae(task: ForecastingTask) -> float:
    target, season = task.series.values[: task.cuts[0], 0], task.series.season
    changes = np.abs(target[season:] - target[:-season])
    changes = changes[~np.isnan(changes)]
    return float(changes.mean()) if len(changes) else 0.0


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else float("nan")
