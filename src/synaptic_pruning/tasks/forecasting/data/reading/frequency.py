"""Name the step of timestamps, and go on with it."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.forecasting.data.reading.timestamps import regular_grid
from synaptic_pruning.tasks.forecasting.data.series import Times


def frequency(times: Times) -> str:
    """Return the most common step of the times, as `continued` reads it.

    It is a number for row numbers and years, a frequency of pandas for dates, or "3 months" where pandas has none.

    Args:
        times: Strictly increasing times, int64 or datetime64[ns], shape (rows,), at least two.

    Example:
        >>> frequency(np.array(["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09"], "datetime64[ns]"))
        'B'
        >>> frequency(np.array(["2024-01-15", "2024-02-15", "2024-03-15"], "datetime64[ns]"))
        '1 months'
    """
    grid = regular_grid(times).times
    if grid.dtype.kind == "i":
        return str(int(grid[1] - grid[0]))
    if len(grid) < 3:
        return str(pd.tseries.frequencies.to_offset(pd.Timedelta(grid[1] - grid[0])).freqstr)
    with warnings.catch_warnings():  # of a text becoming an offset, both of which work here
        warnings.simplefilter("ignore")
        found = pd.infer_freq(pd.DatetimeIndex(grid))
    if found is None:  # a day within the month
        months = grid.astype("datetime64[M]").astype(np.int64)
        return f"{months[1] - months[0]} months"
    return str(getattr(found, "freqstr", found))


def continued(last: np.integer | np.datetime64, frequency: str, count: int) -> Times:
    """Return the times that follow, shape (count,).

    Args:
        last: The time before the first of them.
        frequency: The step, of `frequency`.
        count: How many.

    Raises:
        ValueError: The frequency is none.

    Example:
        >>> continued(np.datetime64("2024-01-31", "ns"), "ME", 2).astype("datetime64[D]").astype(str).tolist()
        ['2024-02-29', '2024-03-31']
    """
    if isinstance(last, np.integer):
        return last + int(frequency) * np.arange(1, count + 1)
    if months := re.fullmatch(r"(\d+) months", frequency):
        steps = [pd.Timestamp(last) + pd.DateOffset(months=int(months[1]) * step) for step in range(1, count + 1)]
        return np.asarray(pd.DatetimeIndex(steps).as_unit("ns"))
    following = pd.date_range(pd.Timestamp(last), periods=count + 1, freq=frequency).as_unit("ns")
    return np.asarray(following[following > pd.Timestamp(last)][:count])
