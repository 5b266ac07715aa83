"""Compute errors in original units, and the baselines that a network has to beat."""

from collections.abc import Mapping

import numpy as np

from synaptic_pruning.tasks.forecasting.data import Array
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Windows


def persistence(task: ForecastingTask, windows: Windows) -> Array:
    """Forecast the last observed value at every step.

    Args:
        task: Task that the windows belong to.
        windows: Windows to forecast, n of them.

    Returns:
        Forecasts in original units, shape (n, horizon).

    Example:
        >>> from synaptic_pruning.tasks.forecasting import Series, make_task
        >>> line = Series("line", "y", ("y",), np.arange(30), np.arange(30.0)[:, None], season=2)
        >>> task = make_task(line, length=4, horizon=3)
        >>> persistence(task, task.test)[:2]
        array([[23., 23., 23.],
               [24., 24., 24.]])
    """
    return np.repeat(task.filled[windows.origins, :1], task.horizon, axis=1)


def seasonal_naive(task: ForecastingTask, windows: Windows) -> Array:
    """Forecast the value at the same point of the latest season known at the origin.

    Where the series does not reach back a season, the forecast is the last observed value.

    Args:
        task: Task that the windows belong to.
        windows: Windows to forecast, n of them.

    Returns:
        Forecasts in original units, shape (n, horizon).

    Example:
        >>> from synaptic_pruning.tasks.forecasting import Series, make_task
        >>> line = Series("line", "y", ("y",), np.arange(30), np.arange(30.0)[:, None], season=2)
        >>> task = make_task(line, length=4, horizon=3)
        >>> seasonal_naive(task, task.test)[:2]
        array([[22., 23., 22.],
               [23., 24., 23.]])
    """
    season = task.series.season
    ahead = np.arange(1, task.horizon + 1)
    rows = windows.origins[:, None] + ahead - season * -(-ahead // season)
    return np.where(rows < 0, persistence(task, windows), task.filled[np.maximum(rows, 0), 0])


def score(task: ForecastingTask, forecasts: Array) -> dict[str, float]:
    """Score forecasts of the test windows.

    Means run over all origins and steps whose truth is known. ``mae`` and ``rmse`` are in original units.
    ``mase`` is the MAE divided by that of the seasonal naive forecast within the training part (Hyndman &
    Koehler 2006). ``skill`` is 1 - MAE / MAE of persistence on the same test windows: 0 for persistence
    itself, negative for a worse forecast. A missing forecast makes every number NaN. A denominator of zero makes
    its own number NaN.

    Args:
        task: Task that the test windows belong to.
        forecasts: Forecasts in original units, shape (n, horizon).

    Raises:
        ValueError: The forecasts have another shape than the test windows need.
    """
    return scores(task.truth(task.test), forecasts, denominators(task))


def denominators(task: ForecastingTask) -> dict[str, float]:
    """Return the denominators of `score`: the MAE of persistence in the test part, of seasonal naive in training."""
    return {
        "persistence": mean_absolute_error(task.truth(task.test), persistence(task, task.test)),
        "seasonal naive": _seasonal_naive_mae(task),
    }


def scores(truth: Array, forecasts: Array, divided_by: Mapping[str, float]) -> dict[str, float]:
    """Compute the numbers of `score` without the task.

    Args:
        truth: Observed values in original units, shape (n, horizon); NaN where there is none.
        forecasts: Forecasts in original units, shape (n, horizon).
        divided_by: The task's `denominators`.

    Raises:
        ValueError: The forecasts have another shape than the truth.

    Example:
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
