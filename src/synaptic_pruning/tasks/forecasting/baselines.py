"""What a network has to beat: the last value, and the value one season ago."""

from __future__ import annotations

import numpy as np

from synaptic_pruning.tasks.forecasting.data.series import Array
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Windows


def persistence(task: ForecastingTask, windows: Windows) -> Array:
    """The last observed value, repeated: (n, horizon) in original units.

    >>> from synaptic_pruning.tasks.forecasting import Series, make_task
    >>> line = Series("line", "y", ("y",), np.arange(30), np.arange(30.0)[:, None], season=2)
    >>> task = make_task(line, length=4, horizon=3)
    >>> persistence(task, task.test)[:2]
    array([[23., 23., 23.],
           [24., 24., 24.]])
    """
    return np.repeat(task.filled[windows.origins, :1], task.horizon, axis=1)


def seasonal_naive(task: ForecastingTask, windows: Windows) -> Array:
    """The value of the same point of the latest season known at the origin: (n, horizon) in original units.

    Where the series does not reach back a season, the last observed value.

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
