"""Read CSV and Parquet files into series: a wide table, or the long ``unique_id, ds, y`` form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading.dates import parse_times
from synaptic_pruning.tasks.forecasting.data.reading.numbers import Column, Numbers
from synaptic_pruning.tasks.forecasting.data.reading.parquet_table import ParquetTable
from synaptic_pruning.tasks.forecasting.data.reading.summary import summary
from synaptic_pruning.tasks.forecasting.data.reading.table import Table, listed, shown
from synaptic_pruning.tasks.forecasting.data.reading.timestamps import Gaps, check_order, regularise
from synaptic_pruning.tasks.forecasting.data.series import Array, Recent, Series, Times

_TIME_NAMES = {"date", "datetime", "ds", "index", "time", "timestamp", "year"}


def read_csv(
    path: str | Path,
    target: str | None = None,
    *,
    time: str | None = None,
    date_format: str | None = None,
    separator: str = ",",
    encoding: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Iterable[str | float] = (),
    gaps: Gaps = "error",
    season: int | None = None,
    columns: Sequence[str] | None = None,
    recent: bool = False,
) -> list[Series]:
    """Read a CSV file (plain, .gz, .bz2, .xz or .zip) with one header row, or a Parquet file (.parquet).

    A file with the columns ``unique_id`` and ``ds`` is long and gives one series per id. Any other file is wide
    and gives one series, named after the file. Missing values stay NaN. A cell that could be read in two ways is
    refused, and `Series.reading` says how the file was read. Rows in messages count as in a spreadsheet. Cells of a
    Parquet file have types, so that separator, encoding and marks do not matter.

    Args:
        path: The file.
        target: The column to forecast; it becomes the first channel. By default ``y`` of a long file.
        time: The time column, or several to join, ``"Date,Time"``. By default ``ds`` of a long file, else the
            first column if it holds text, or whole numbers under the name date, datetime, ds, time,
            timestamp, year or index; else rows are numbered, empty ones included.
        date_format: How times are written, as in ``"%d.%m.%y"``; ``"day first"`` or ``"month first"``; ``"s"`` or
            ``"ms"`` since 1970; or ``"number"``. By default ISO 8601, or numbers of day, month and year whose order the
            column itself shows.
        separator: The character between cells.
        encoding: Encoding of the text; by default UTF-8, UTF-16 with its mark, or Windows-1252, as the bytes tell.
        decimal: The decimal mark, a point or a comma; by default a point.
        thousands: The mark between thousands: a comma, point, space or apostrophe; by default one that some cell of
            the column proves. A point makes the comma the decimal mark.
        missing: Cells that mean "no value" beside empty ones, NA and NaN; numbers match as numbers (-200).
        gaps: What to do about missing timestamps: ``"error"`` refuses, ``"fill"`` inserts the rows as missing,
            ``"ignore"`` takes the rows as they come. Missing weekends are no gap; missing holidays are.
        season: Rows in a season; by default a day of sub-daily rows, a week of days, a year of weeks or
            months.
        columns: The other input channels; by default every column that is not wholly text.
        recent: Whether the rows are to be forecast from, so that the target need not vary.

    Returns:
        The series, in the order of the file.

    Raises:
        DataError: The file cannot be used; the message is one sentence with the fix.
    """
    path = Path(path)
    typed = path.suffix.lower() == ".parquet"
    numbers = Numbers(".", None) if typed else Numbers(decimal, thousands)
    if gaps not in get_args(Gaps):
        raise DataError(f"gaps={gaps!r} is unknown; use 'error', 'fill' or 'ignore'.")
    if len(separator) != 1 or separator in '\r\n"':
        raise DataError(f"separator={separator!r} must be a single character, neither a quote nor a line break.")
    table = ParquetTable(path) if typed else Table(path, separator, encoding)
    header = table.header
    long = {"unique_id", "ds"} <= set(header)
    if target is None:
        if not (long and "y" in header):
            raise DataError(f"target=None names no column of {path.name} to forecast; it has {listed(header)}.")
        target = "y"
    time_columns = _time_columns("ds" if long and time is None else time, header)
    for name in [target, *time_columns, *(columns or [])]:
        _require(name, header, path)

    labels = ["unique_id"] if long else []
    read, kept, rows = _read(table, target, columns, [*time_columns, *labels], numbers, list(missing))
    if len(rows) < 2:
        raise DataError(f"{path.name} has {len(rows)} row(s) below its header; give at least two, in time order.")
    if time is None and not long and header[0] != target and _is_time(read[header[0]]):
        time_columns = [header[0]]
    if columns is None:
        names = [name for name in header if not (name in {target, *time_columns, *labels} or read[name].is_text)]
    else:
        names = [name for name in columns if name not in {target, *time_columns, *labels}]
    channels = [read[name] for name in (target, *names)]
    values = np.column_stack([column.values() for column in channels])
    if not typed and decimal == separator and not any(column.has_decimals for column in channels):
        raise DataError(
            f"separator={separator!r} and decimal={decimal!r} are the same mark, and no cell in quotes holds it; "
            "pass the right separator."
        )
    times, form, dates = rows - rows[0], "rows numbered", date_format
    if time_columns:
        label = ",".join(time_columns)
        stamps = kept[time_columns[0]]
        for extra in time_columns[1:]:
            stamps = stamps.str.strip() + " " + kept[extra].str.strip()
        times, form, found = parse_times(stamps, label, date_format)
        dates = date_format or found
        form = f"times from {shown(label)}: {form}"
    elif date_format is not None:
        raise DataError(f"date_format={date_format!r} is given, but there is no time column; name it with time=.")

    groups = _ids(kept["unique_id"]) if long else {path.name.split(".")[0]: slice(None)}
    parts: list[tuple[str, Times, Array, int]] = []
    for name, places in groups.items():
        check_order(name, times[places], pd.Index(rows[places]), time_columns, header)
        parts.append((name, *regularise(name, times[places], values[places], gaps)))
    reading = summary(
        path.name,
        times=form,
        filled=sum(len(part[1]) for part in parts) - len(rows),
        channels=channels,
        values=values,
        left_out=[name for name in header if name not in {*time_columns, *labels, target, *names}],
        why="without numbers" if columns is None else "not asked for",
        numbers=numbers,
        separator=separator,
        encoding=table.encoding,
    )
    kind = Recent if recent else Series
    return [
        kind(name, target, (target, *names), times, values, inferred if season is None else season, reading, dates)
        for name, times, values, inferred in parts
    ]


def _read(
    table: Table | ParquetTable,
    target: str,
    columns: Sequence[str] | None,
    texts: list[str],
    numbers: Numbers,
    missing: list[str | float],
) -> tuple[dict[str, Column], dict[str, pd.Series[str]], NDArray[np.int64]]:
    """Read a table once: columns of numbers, columns of text, and the places of the rows in the file."""
    first = table.header[0]
    wanted = {target, first, *(table.header if columns is None else columns)}
    read = {n: Column(n, numbers, missing) for n in table.header if n in wanted and (n == target or n not in texts)}
    kept: dict[str, list[pd.Series[str]]] = {name: [] for name in {*texts, first}}
    rows: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for block in table.blocks():
        rows.append(np.array(block.rows))
        for name, cells in zip(table.header, block.columns, strict=True):
            if name in read:
                read[name].add(block.rows, cells)
            if name in kept:
                kept[name].append(pd.Series(cells, block.rows, "str"))
    return read, {name: pd.concat(parts) for name, parts in kept.items() if parts}, np.concatenate(rows)


def _is_time(first: Column) -> bool:
    if first.name.lower() in _TIME_NAMES and "whole" in first.kinds and first.kinds.keys() <= {"whole", "missing"}:
        return True
    return first.is_text and "text" in first.kinds


def _time_columns(time: str | None, header: list[str]) -> list[str]:
    if time is None:
        return []
    return [time] if time in header else [part.strip() for part in time.split(",")]


def _require(name: str, header: list[str], path: Path) -> None:
    if name in header:
        return
    separators = [mark for mark in ";\t|," if mark in header[0]]
    if len(header) == 1 and separators:
        fix = f"the header reads as one column {shown(header[0])}, so pass separator={separators[0]!r}"
    elif any(re.fullmatch(r"[+-]?[0-9][0-9.,]*", known) for known in header):
        fix = f"its first row, which must name the columns, holds {listed(header)}"
    else:
        lower = {known.lower(): known for known in header}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3)]
        fix = f"did you mean {' or '.join(map(shown, close))}?" if close else f"it has {listed(header)}"
    raise DataError(f"column {name!r} is not in {path.name}; {fix}{'' if fix.endswith('?') else '.'}")


def _ids(ids: pd.Series[str]) -> dict[Any, Any]:
    ids = ids.str.strip()
    if ids.eq("").any():
        raise DataError(f"column 'unique_id' is empty in row {ids.eq('').idxmax()}; fill it or drop the row.")
    return dict(ids.groupby(ids, sort=False).indices)
