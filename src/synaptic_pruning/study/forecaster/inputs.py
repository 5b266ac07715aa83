"""Add inputs that are known ahead: the place in the day, week and year, and columns whose future is given."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synaptic_pruning.tasks.forecasting import DataError, Series, cycles
from synaptic_pruning.tasks.forecasting import calendar as place_in_calendar


def extend(series: Series, *, horizon: int, known: Sequence[str] = (), calendar: Sequence[str] = ()) -> Series:
    """Return the series with inputs that are known ahead.

    A known column is moved up by the horizon, so that a window ends with its value at the last row to forecast.
    It is missing in the last rows, where that is unknown. Cycles become sine and cosine.

    Args:
        series: The series.
        horizon: Rows to forecast.
        known: Columns beside the target whose values are known for the rows to forecast.
        calendar: Names of `cycles`.

    Raises:
        DataError: A known column is the target or no column at all.

    Example:
        >>> days = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]").astype("datetime64[ns]")
        >>> sales = Series("sales", "y", ("y", "price"), days, np.arange(8.0).reshape(4, 2), season=1)
        >>> many = extend(sales, horizon=1, known=["price"], calendar=["weekday"])
        >>> many.columns
        ('y', 'price, 1 ahead', 'weekday sine', 'weekday cosine')
        >>> many.values[:, 1]
        array([ 3.,  5.,  7., nan])
    """
    for name in known:
        if name not in series.columns[1:]:
            inputs = ", ".join(series.columns[1:]) or "none"
            raise DataError(f"known={name!r} is no input of series {series.name!r}; its inputs are: {inputs}.")
    columns, values = list(series.columns), [*series.values.T]
    for name in known:
        place = series.columns.index(name)
        columns[place] = f"{name}, {horizon} ahead"
        values[place] = np.append(values[place][horizon:], np.full(min(horizon, len(series.times)), np.nan))
    if calendar:
        for column, place_in_cycle in place_in_calendar(series.times, calendar):
            columns.append(column)
            values.append(place_in_cycle)
    return replace(series, columns=tuple(columns), values=np.column_stack(values))


def with_inputs(series: Series, *, horizon: int, known: Sequence[str] = (), calendar: bool = False) -> Series:
    """Return the series as `extend` does, with every cycle of the calendar that tells something where that is asked.

    Raises:
        DataError: As for `extend`, or the times show no cycle.
    """
    found = cycles(series.times) if calendar else ()
    if calendar and not found:
        raise DataError(
            f"series {series.name!r} has no dates, or too few for two cycles of the calendar; leave the calendar out."
        )
    return extend(series, horizon=horizon, known=known, calendar=found)
