"""Add inputs that are known ahead: the place in the day, week and year, and columns whose future is given."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.forecasting import Array, DataError, Series, Times

_DAYS = {"hour": 1, "weekday": 7, "year": 365}
"""Cycles by name, with their days."""
_DAY = np.timedelta64(1, "D")


def cycles(times: Times) -> tuple[str, ...]:
    """Return the cycles of the calendar that tell something: of at least two steps, and seen at least twice.

    Args:
        times: Increasing times; whole numbers have no calendar.

    Example:
        >>> cycles(np.arange("2024-01-01", "2024-02-01", dtype="datetime64[D]").astype("datetime64[ns]"))
        ('weekday',)
    """
    if times.dtype.kind != "M":
        return ()
    step, span = np.median(np.diff(times).astype(np.int64)).astype("timedelta64[ns]"), times[-1] - times[0]
    return tuple(name for name, days in _DAYS.items() if 2 * step < days * _DAY and span >= 2 * days * _DAY)


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
    for name in calendar:
        place_in_cycle = 2 * np.pi * _place(series.times, name)
        columns += [f"{name} sine", f"{name} cosine"]
        values += [np.sin(place_in_cycle), np.cos(place_in_cycle)]
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


def _place(times: Times, cycle: str) -> Array:
    """Return how far every time is in its day, week or year, in [0, 1)."""
    dates = pd.DatetimeIndex(times)
    of_day = np.asarray((dates - dates.normalize()) / pd.Timedelta(days=1), np.float64)
    if cycle == "hour":
        return of_day
    if cycle == "weekday":
        return np.asarray(dates.day_of_week / 7, np.float64)
    return np.asarray((dates.day_of_year - 1 + of_day) / (365 + dates.is_leap_year), np.float64)
