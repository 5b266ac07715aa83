"""Hold one series: times, channels, and missing values as NaN."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synaptic_pruning.tasks.errors import DataError

Array = NDArray[np.float64]
Times = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Series:
    """A target and the channels observed beside it, row by row in time.

    Attributes:
        name: Name of the data set.
        target: Name of the target's column.
        columns: Names of the channels; the first is the target.
        times: Strictly increasing, datetime64[ns] or int64 (row numbers, years), shape (rows,).
        values: Values in original units, float64, shape (rows, channels); NaN marks a missing value.
        season: Number of rows in a season, 1 when there is none.
        reading: How the file was read, in one line; "" where no file of the user's was.
        date_format: What `read_csv` reads times of further files of the kind with; None where they tell it themselves.

    Raises:
        DataError: Shapes do not agree, times do not increase, a value is infinite, or the target is constant.

    Example:
        >>> tides = Series("tides", "level", ("level",), np.arange(3), np.array([[1.0], [2.0], [4.0]]), season=2)
        >>> tides.values.shape, tides.digest[:8]
        ((3, 1), '...')
    """

    name: str
    target: str
    columns: tuple[str, ...]
    times: Times
    values: Array
    season: int
    reading: str = ""
    date_format: str | None = None

    def __post_init__(self) -> None:
        rows = len(self.times)
        if self.values.shape != (rows, len(self.columns)):
            raise DataError(
                f"series {self.name!r}: values have the shape {self.values.shape}, "
                f"but {rows} times and {len(self.columns)} columns need {(rows, len(self.columns))}."
            )
        if not self.columns or self.columns[0] != self.target:
            raise DataError(f"series {self.name!r}: the first column must be the target {self.target!r}.")
        if rows < 2:
            raise DataError(f"series {self.name!r} has {rows} row(s); give at least two, in time order.")
        if not (self.times[1:] > self.times[:-1]).all():
            raise DataError(f"series {self.name!r}: times must increase strictly; sort them, drop duplicates.")
        if np.isinf(self.values).any():
            row, column = np.argwhere(np.isinf(self.values))[0]
            raise DataError(
                f"series {self.name!r}: column {self.columns[column]!r} is infinite in row {row}; "
                "write the value as missing."
            )
        if self.season < 1:
            raise DataError(f"series {self.name!r}: season is {self.season}; give rows per season, 1 for none.")
        self._check_target()

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of columns, times, values and season, in hexadecimal; nothing else counts."""
        head = json.dumps([self.columns, self.season, str(self.times.dtype)]).encode()
        values = np.where(np.isnan(self.values), np.nan, self.values)  # one bit pattern for every NaN
        return hashlib.sha256(b"\0".join([head, self.times.tobytes(), values.tobytes()])).hexdigest()

    def _check_target(self) -> None:
        observed = self.values[~np.isnan(self.values[:, 0]), 0]
        if len(observed) == 0 or observed.min() == observed.max():
            what = "no value at all" if len(observed) == 0 else f"the constant value {observed[0]:g}"
            raise DataError(f"series {self.name!r}: target {self.target!r} has {what}; choose a target that varies.")


@dataclass(frozen=True, eq=False)
class Recent(Series):
    """The latest rows of a series, to forecast from: a `Series` whose target need not vary.

    Example:
        >>> Recent("dry", "rain", ("rain",), np.arange(3), np.zeros((3, 1)), season=1).values.shape
        (3, 1)
    """

    def _check_target(self) -> None:
        pass
