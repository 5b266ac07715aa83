"""Check the order of timestamps, and put them on a regular grid."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.series import Array, Times

Gaps = Literal["error", "fill", "ignore"]
_DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")


class TimeGrid(NamedTuple):
    """Every time that a regular series has from the first to the last, and its rows per season."""

    times: Times
    season: int


def regular_grid(times: Times) -> TimeGrid:
    """Return the grid of the most common step: whole numbers, calendar months, business days, or a fixed step.

    Days are business days when no weekend has a row. The season is a day for steps below one, a week for
    days, a year for weeks and months, and 1 where none of these holds.

    Example:
        >>> regular_grid(np.array([3, 5, 9])).times.tolist()
        [3, 5, 7, 9]
    """
    step, span = _most_common(np.diff(times)), times[-1] - times[0]
    if span // step > 100 * len(times):  # no common step: a small grid, which the times will not fit
        step = span // (len(times) - 1)
    if times.dtype.kind == "i":
        return TimeGrid(np.arange(times[0], times[-1] + 1, step), 1)
    if step >= 28 * _DAY and (monthly := _monthly(times)) is not None:
        return monthly
    days = times.astype("datetime64[D]")
    weekends_lack = np.is_busday(days).all() and (np.diff(times) == 3 * _DAY).any()
    if step == _DAY and weekends_lack and (days == times).all():
        every = np.arange(days[0], days[-1] + 1)
        return TimeGrid(every[np.is_busday(every)].astype("datetime64[ns]"), 5)
    season = {int(_DAY): 7, int(7 * _DAY): 52}.get(int(step), 1)
    if step < _DAY and _DAY % step == np.timedelta64(0, "ns"):
        season = int(_DAY // step)
    return TimeGrid(np.arange(times[0], times[-1] + np.timedelta64(1, "ns"), step), season)


def _monthly(times: Times) -> TimeGrid | None:
    """Return a grid of whole months when the day of the month stays the same, or is always the last."""
    months = times.astype("datetime64[M]")
    step = int(_most_common(np.diff(months).astype(np.int64)))
    if step < 1:
        return None
    every = np.arange(months[0], months[-1] + 1, step)
    season = 12 // step if 12 % step == 0 else 1
    for anchor in (0, 1):  # counted from the first of this month, or of the next
        offset = times - (months + anchor).astype("datetime64[ns]")
        if (offset == offset[0]).all():
            return TimeGrid((every + anchor).astype("datetime64[ns]") + offset[0], season)
    return None


def _most_common(steps: NDArray[Any]) -> Any:
    values, counts = np.unique(steps, return_counts=True)
    return values[counts.argmax()]


def check_order(name: str, times: Times, rows: pd.Index[int], time_columns: list[str], header: list[str]) -> None:
    """Refuse repeated or unsorted timestamps of one series.

    Args:
        name: Name of the series.
        times: Times of the series.
        rows: Rows of the file that hold these times, for messages.
        time_columns: Names of the columns that give the time.
        header: Names of all columns.

    Raises:
        DataError: A timestamp is repeated, or earlier than the one before it.
    """
    label = ",".join(time_columns)
    repeated = pd.Index(times).duplicated()
    if repeated.any():
        second = int(repeated.argmax())
        first = int((times == times[second]).argmax())
        spare = [other for other in header if other.lower() == "time" and other not in time_columns]
        fix = f"pass time='{label},{spare[0]}' if the hours stand there" if spare else "keep one of them"
        raise DataError(
            f"series {name!r}: timestamp {_show(times[second])} of {label!r} stands in rows "
            f"{rows[first]} and {rows[second]}; {fix}."
        )
    back = times[1:] < times[:-1]
    if back.any():
        row = int(back.argmax()) + 1
        raise DataError(
            f"series {name!r}: timestamp {_show(times[row])} of {label!r} in row {rows[row]} is earlier "
            "than the one above it; sort the file by time."
        )


def regularise(name: str, times: Times, values: Array, gaps: Gaps) -> tuple[Times, Array, int]:
    """Fill, ignore or refuse missing timestamps.

    Args:
        name: Name of the series.
        times: Strictly increasing times, shape (rows,).
        values: Values of all channels, shape (rows, channels).
        gaps: What to do about missing timestamps; see `read_csv`.

    Returns:
        Times, values, and the season that the step of the times suggests.

    Raises:
        DataError: There is one row only, a time is off the regular step, or a time is missing and gaps are refused.
    """
    if len(times) < 2:
        raise DataError(f"series {name!r} has one row; give at least two, in time order.")
    grid, season = regular_grid(times)
    absent, stray = np.setdiff1d(grid, times), np.setdiff1d(times, grid)
    if gaps == "ignore" or not (len(absent) or len(stray)):
        return times, values, season
    if len(stray):
        raise DataError(
            f"series {name!r}: {len(stray)} timestamps are off the regular step of "
            f"{_show(grid[1] - grid[0])}, the first {_show(stray[0])}; resample the file, or pass "
            "gaps='ignore' to take the rows as they come."
        )
    if gaps == "error":
        raise DataError(
            f"series {name!r} lacks {len(absent)} timestamp(s), the first {_show(absent[0])}; close the gaps "
            "with gaps='fill' (rows inserted as missing) or pass gaps='ignore' to take the rows as they come."
        )
    filled = np.full((len(grid), values.shape[1]), np.nan)
    filled[np.searchsorted(grid, times)] = values
    return grid, filled, season


def _show(time: Any) -> str:
    if isinstance(time, np.timedelta64):
        return str(pd.Timedelta(time))
    return str(pd.Timestamp(time)) if isinstance(time, np.datetime64) else str(time)
