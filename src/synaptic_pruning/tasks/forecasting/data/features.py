"""Engineer many inputs out of a series, from the past alone."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synaptic_pruning.tasks.forecasting.data.series import Array, Series, Times

COVARIATES = 3
"""Number of columns beside the target that become inputs, the first ones."""
_WINDOWS = (3, 5, 7, 14, 24, 48)
_LAGS = (*range(1, 15), 24, 48)
_LONG = 96
_LONGEST = 400
_DAY = np.timedelta64(1, "D")
_CYCLES = {"hour": 1, "weekday": 7, "year": 365}
"""Cycles of the calendar by name, with their days."""


def engineer(series: Series) -> Series:
    """Return the series with engineered inputs as further channels: about 75 for each column, and the calendar.

    The target stays channel 0, as it is. The first `COVARIATES` other columns are kept and treated like the target;
    further ones are left out. So there are 74 to 310 channels, named after what they are:

    - ``y lag 3``: the value three rows before; up to 14 rows, 24, 48, and a season (and one row less) before.
    - ``y difference 3``: the value minus the one three rows before; steps 1 and those of the windows.
    - ``y mean 24``, ``y deviation 24`` (of a sample), ``y minimum 24``, ``y maximum 24``, ``y rank 24`` (of the
      present value, as a share of the window), ``y skewness 24`` (unbiased, 0 where all are equal): of the last 24
      rows, the present one included. Windows of 3, 5, 7, 14, 24, 48 rows and a season.
    - ``y exponential mean 24``: weights fall by (24 - 1) / (24 + 1) a row; spans as the windows.
    - ``hour sine``, ``weekday cosine``, ``year sine``: the place in the day, week and year, where times are dates.
      A cycle is there if steps are shorter than half of it and the series lasts at least two.

    A season of 1, or above 400 rows, is replaced by 96 rows; one that is a window already gets a window of 96 rows
    beside it. Row t depends on values of rows up to t alone; which cycles there are depends on the times alone. A
    missing value counts as the last observed one of its column, as it does in windows. A feature is NaN until there
    is enough history for it.

    Args:
        series: Series to extend; name, times, season and reading stay.

    Raises:
        DataError: A feature overflows.

    Example:
        >>> line = Series("line", "y", ("y",), np.arange(200), np.arange(200.0)[:, None] ** 2, season=1)
        >>> many = engineer(line)
        >>> many.values.shape, many.columns[:4]
        ((200, 76), ('y', 'y lag 1', 'y lag 2', 'y lag 3'))
        >>> dict(zip(many.columns, many.values[99].tolist()))["y difference 3"]       # 99² - 96²
        585.0
    """
    season = series.season if 1 < series.season <= _LONGEST else _LONG
    windows = sorted({*_WINDOWS, season})
    if len(windows) == len(_WINDOWS):
        windows.append(_LONG)
    lags = sorted({*_LAGS, season - 1, season})
    kept = slice(0, 1 + COVARIATES)
    columns, values = list(series.columns[kept]), [*series.values.T[kept]]
    features = [
        (f"{name} {kind}", feature)
        for name, column in zip(series.columns[kept], series.values.T, strict=False)
        for kind, feature in _features(pd.Series(column).ffill(), lags, windows)
    ]
    if found := cycles(series.times):
        features += calendar(series.times, found)
    return replace(
        series,
        columns=(*columns, *(name for name, _ in features)),
        values=np.column_stack([*values, *(feature for _, feature in features)]),
    )


def _features(column: pd.Series, lags: list[int], windows: list[int]) -> Iterator[tuple[str, Array]]:
    """Yield the features of one column without gaps; its leading NaN are rows before the first observation."""
    for lag in lags:
        yield f"lag {lag}", column.shift(lag).to_numpy()
    for step in (1, *windows):
        yield f"difference {step}", column.diff(step).to_numpy()
    for window in windows:
        rolling = column.rolling(window)
        deviation = rolling.std()
        yield f"mean {window}", rolling.mean().to_numpy()
        yield f"deviation {window}", deviation.to_numpy()
        yield f"minimum {window}", rolling.min().to_numpy()
        yield f"maximum {window}", rolling.max().to_numpy()
        yield f"rank {window}", rolling.rank(pct=True).to_numpy()
        skewness = rolling.skew().fillna(0.0)  # pandas has none where all values are equal
        yield f"skewness {window}", skewness.where(deviation.notna()).to_numpy()
    for span in windows:
        yield f"exponential mean {span}", column.ewm(span=span, min_periods=span).mean().to_numpy()


def cycles(times: Times) -> tuple[str, ...]:
    """Return the cycles of the calendar that tell something: steps are shorter than half of one, and two are seen.

    Args:
        times: Increasing times; whole numbers have no calendar.

    Example:
        >>> cycles(np.arange("2024-01-01", "2024-02-01", dtype="datetime64[D]").astype("datetime64[ns]"))
        ('weekday',)
    """
    if times.dtype.kind != "M":
        return ()
    step, span = np.median(np.diff(times).astype(np.int64)).astype("timedelta64[ns]"), times[-1] - times[0]
    return tuple(name for name, days in _CYCLES.items() if 2 * step < days * _DAY and span >= 2 * days * _DAY)


def calendar(times: Times, names: Iterable[str]) -> Iterator[tuple[str, Array]]:
    """Yield sine and cosine of the place of every time in its day, week or year, by name.

    Args:
        times: Dates.
        names: Names of `cycles`.
    """
    days, years = times.astype("datetime64[D]"), times.astype("datetime64[Y]")
    length_of_year = (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")
    places: dict[str, NDArray[np.float64]] = {
        "hour": (times - days) / _DAY,
        "weekday": ((days.astype(np.int64) + 3) % 7) / 7,  # 1970 began on a Thursday; Monday is 0
        "year": (times - years) / length_of_year,
    }
    for name in names:
        yield f"{name} sine", np.sin(2 * np.pi * places[name])
        yield f"{name} cosine", np.cos(2 * np.pi * places[name])
