"""Read CSV files into series: a wide table, or the long ``unique_id, ds, y`` form."""

from __future__ import annotations

import difflib
import lzma
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.series import Array, Series
from synaptic_pruning.tasks.forecasting.data.timestamps import Gaps, check_order, parse_times, regularise

_TIME_NAMES = {"date", "datetime", "ds", "index", "time", "timestamp", "year"}


def read_csv(
    path: str | Path,
    target: str,
    *,
    time: str | None = None,
    separator: str = ",",
    decimal: str = ".",
    missing: Iterable[str | float] = (),
    gaps: Gaps = "error",
    season: int | None = None,
    columns: Sequence[str] | None = None,
) -> list[Series]:
    """Read a CSV file (plain, .gz, .xz, ...) with one header row.

    A file with the columns ``unique_id`` and ``ds`` is long and gives one series per id. Any other file is wide
    and gives one series, named after the file. Completely empty rows and columns are dropped. Missing values
    stay NaN. Rows in messages count as in a spreadsheet.

    Args:
        path: The file.
        target: The column to forecast; it becomes the first channel.
        time: The time column, or two to join, ``"Date,Time"``. By default ``ds`` of a long file, else the
            first column if it holds text, or whole numbers under the name date, datetime, ds, time,
            timestamp, year or index; else rows are numbered.
        separator: The character between cells.
        decimal: The decimal mark.
        missing: Cells that mean "no value" beside empty ones, NA and NaN; numbers match as numbers (-200).
        gaps: What to do about missing timestamps: ``"error"`` refuses, ``"fill"`` inserts the rows as missing,
            ``"ignore"`` takes the rows as they come. Missing weekends are no gap; missing holidays are.
        season: Rows in a season; by default a day of sub-daily rows, a week of days, a year of weeks or
            months.
        columns: The other input channels; by default every column that is not wholly text.

    Returns:
        The series, in the order of the file.

    Raises:
        DataError: The file cannot be used; the message is one sentence with the fix.
    """
    path = Path(path)
    if gaps not in get_args(Gaps):
        raise DataError(f"gaps={gaps!r} is unknown; use 'error', 'fill' or 'ignore'.")
    if len(separator) != 1 or len(decimal) != 1 or separator == decimal:
        raise DataError(f"separator={separator!r} and decimal={decimal!r} must be two different single characters.")
    marks = list(missing)
    header = _header(path, separator)
    long = {"unique_id", "ds"} <= set(header)
    time_columns = _time_columns("ds" if long and time is None else time, header)
    for name in [target, *time_columns, *(columns or [])]:
        _require(name, header, path)

    texts = {*time_columns, header[0], *(["unique_id"] if long else [])}
    frame = _load(
        path,
        separator,
        names=header,
        skiprows=1,
        decimal=decimal,
        dtype=dict.fromkeys(texts, str),
        na_values={name: [str(mark) for mark in marks] for name in header if name not in texts},
    )
    frame.index += 2  # the header is row 1
    frame = frame.dropna(how="all")
    if len(frame) < 2:
        raise DataError(f"{path.name} has {len(frame)} row(s) below its header; give at least two, in time order.")
    if time is None and not long and _is_time(frame[header[0]], decimal):
        time_columns = [header[0]]

    chosen = header if columns is None else columns
    apart = {target, *time_columns, *(["unique_id"] if long else [])}
    channels = {target: _numbers(frame[target], decimal, marks)}
    for name in chosen:
        if name not in apart and not (columns is None and _wholly_text(frame[name], decimal, marks)):
            channels[name] = _numbers(frame[name], decimal, marks)
    values = np.column_stack(list(channels.values()))
    times = np.arange(len(frame))
    if time_columns:
        stamps = frame[time_columns[0]]
        for extra in time_columns[1:]:
            stamps = stamps + " " + frame[extra]
        times = parse_times(stamps, ",".join(time_columns))

    groups = _ids(frame) if long else {path.name.split(".")[0]: np.arange(len(frame))}
    made = []
    for name, rows in groups.items():
        check_order(name, times[rows], frame.index[rows], time_columns, header)
        filled_times, filled, inferred = regularise(name, times[rows], values[rows], gaps)
        made.append(Series(name, target, tuple(channels), filled_times, filled, inferred if season is None else season))
    return made


def _header(path: Path, separator: str) -> list[str]:
    first = _load(path, separator, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    header = [name.strip() or f"column {position}" for position, name in enumerate(first, 1)]
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"column {name!r} stands twice in the header of {path.name}; rename one of them.")
    return header


def _load(path: Path, separator: str, **options: Any) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                path,
                header=None,
                sep=separator,
                encoding="utf-8-sig",
                encoding_errors="replace",
                index_col=False,
                low_memory=False,
                skip_blank_lines=False,
                **options,
            )
            return frame
    except pd.errors.EmptyDataError:
        raise DataError(f"{path.name} is empty; give a CSV file with a header row and at least two rows.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path.name} cannot be read as a table separated by {separator!r} ({str(error).strip()}); "
            "make every row as long as the header or pass the right separator."
        ) from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be opened ({reason}); check the path and that it is whole.") from None


def _time_columns(time: str | None, header: list[str]) -> list[str]:
    if time is None:
        return []
    return [time] if time in header else [part.strip() for part in time.split(",")]


def _require(name: str, header: list[str], path: Path) -> None:
    if name in header:
        return
    separators = [mark for mark in ";\t|," if mark in header[0]]
    if len(header) == 1 and separators:
        fix = f"the header reads as one column {header[0]!r}, so pass separator={separators[0]!r}"
    else:
        lower = {known.lower(): known for known in header}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3)]
        fix = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(header)}"
    raise DataError(f"column {name!r} is not in {path.name}; {fix}{'' if fix.endswith('?') else '.'}")


def _ids(frame: pd.DataFrame) -> dict[Any, Any]:
    nameless = frame["unique_id"].isna()
    if nameless.any():
        raise DataError(f"column 'unique_id' is empty in row {nameless.idxmax()}; fill it or drop the row.")
    return dict(frame.groupby("unique_id", sort=False).indices)


def _is_time(first: pd.Series[str], decimal: str) -> bool:
    seen = first.dropna().str.strip()
    if str(first.name).lower() in _TIME_NAMES and seen.str.fullmatch(r"[+-]?\d+").all():
        return True
    return len(seen) > 0 and _wholly_text(first, decimal, [])


def _as_text(cells: pd.Series[Any], marks: list[str | float]) -> pd.Series[Any]:
    text = cells.map(str, na_action="ignore").astype(object).str.strip()
    return text.mask(text.isin([str(mark) for mark in marks]) | text.eq(""))


def _wholly_text(cells: pd.Series[Any], decimal: str, marks: list[str | float]) -> bool:
    """Return whether no cell reads as a number; True for an empty column."""
    if not pd.api.types.is_numeric_dtype(cells.dtype):
        text = _as_text(cells, marks).str.replace(decimal, ".", regex=False)
        cells = pd.to_numeric(text, errors="coerce")
    return bool(cells.isna().all())


def _numbers(cells: pd.Series[Any], decimal: str, marks: list[str | float]) -> Array:
    """Return cells as float64, NaN for missing ones; refuse anything else that is not a finite number."""
    text, unread = cells, np.zeros(len(cells), bool)
    if not pd.api.types.is_numeric_dtype(cells.dtype):
        text = _as_text(cells, marks)
        cells = pd.to_numeric(text.str.replace(decimal, ".", regex=False), errors="coerce")
        unread = (cells.isna() & text.notna()).to_numpy()
    values = cells.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    for mark in marks:
        number = pd.to_numeric(str(mark), errors="coerce")
        values[values == number] = np.nan
    wrong = unread | np.isinf(values)
    if wrong.any():
        cell, row = str(text.iloc[wrong.argmax()]), cells.index[wrong.argmax()]
        fix = f"correct it, or pass missing=[{cell!r}] if it means no value"
        if re.fullmatch(r"-?\d+,\d+", cell):
            fix = "pass decimal=','"
        raise DataError(f"column {cells.name!r} holds {cell!r} in row {row}, not a finite number; {fix}.")
    return values
