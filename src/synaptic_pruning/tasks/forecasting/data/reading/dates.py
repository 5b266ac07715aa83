"""Decide how a time column is read: whole numbers or dates, the day or the month first."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading.table import shown
from synaptic_pruning.tasks.forecasting.data.reading.timestamps import regular_grid
from synaptic_pruning.tasks.forecasting.data.series import Times

_UNITS = {"s": "seconds", "ms": "milliseconds"}
_COMPACT = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_ISO = r"\d{4}-\d{1,2}(?:-\d{1,2}(?:[ T].+)?)?|\d{4}|\d{8}T\d+.*"


class ParsedTimes(NamedTuple):
    """Times, and how they were read.

    Attributes:
        times: int64 or datetime64[ns], shape (rows,).
        form: How they were read, in words.
    """

    times: Times
    form: str


def parse_times(text: pd.Series[str], column: str, date_format: str | None = None) -> ParsedTimes:
    """Parse text to int64 (when every cell is a whole number) or datetime64[ns].

    Dates are ISO 8601, or day/month/year or month/day/year with ``/``, ``.`` or ``-``; which of the two is
    decided by the first number above 12 in the column, else by which of them increases. Hours may be written
    18.00.00. Time zones are converted to UTC. Whole numbers that could be dates (20240131) are refused unless only as
    dates they have a regular step.

    Args:
        text: The cells; their index holds the rows of the file, for messages.
        column: Name of the time column, for messages.
        date_format: How the cells are written, as in ``"%d.%m.%y"``; ``"s"`` or ``"ms"`` since 1970; or ``"number"``.

    Raises:
        DataError: A timestamp is missing or unreadable (its row is named), or the column can be read in two ways.

    Example:
        >>> times, form = parse_times(pd.Series(["30/04/2004 18.00.00", "01/05/2004 19.00.00"]), "when")
        >>> times.astype(str).tolist(), form
        (['2004-04-30T18:00:00.000000000', '2004-05-01T19:00:00.000000000'], 'dates, the day first')
    """
    text = text.str.strip()
    empty = text.isna() | text.eq("")
    if empty.any():
        raise DataError(f"time column {column!r} is empty in row {text.index[empty][0]}; fill it or drop the row.")
    if date_format not in (None, "number"):
        return ParsedTimes(_formatted(text, column, str(date_format)), _form(str(date_format)))
    if text.str.fullmatch(r"[+-]?[0-9]{1,18}").all():
        numbers = np.asarray(text.astype("int64"))
        pattern = _compact(text) if date_format is None else None
        if pattern is None:
            return ParsedTimes(numbers, "whole numbers")
        return _whole_or_dates(numbers, text, column, pattern)
    if date_format == "number":
        row = text.index[~text.str.fullmatch(r"[+-]?[0-9]{1,18}")][0]
        raise DataError(
            f"time column {column!r} holds {shown(text[row])} in row {row}, not a whole number; correct it."
        )
    return _dates(text, column)


def _dates(text: pd.Series[str], column: str) -> ParsedTimes:
    form = "dates as YYYY-MM-DD"
    iso = text
    if not text.str.fullmatch(_ISO).all():
        iso = iso.str.replace(r"(?<=[ T])(\d{1,2})\.(\d{2})(?=\.\d{2}$|$)", r"\1:\2", regex=True)
        iso = iso.str.replace(r"(?<=[ T])(\d{1,2}:\d{2})\.(\d{2})$", r"\1:\2", regex=True)
        parts = iso.str.extract(r"^(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4})(.*)$")
        if parts[0].notna().all():
            day_first, why = _day_first(parts, text, column)
            iso, form = _iso(parts, day_first), f"dates, the {'day' if day_first else 'month'} first{why}"
        else:
            iso = iso.str.replace(r"^(\d{4})[/. ](\d{1,2})[/. ](\d{1,2})", r"\1-\2-\3", regex=True)
    zoned = iso.str.contains(r"[T ]\d.*(?:Z|[+-]\d{2}(?::?\d{2})?)$")
    if zoned.any() != zoned.all():
        row = text.index[~zoned][0]
        raise DataError(
            f"time column {column!r} holds {shown(text[row])} in row {row} without an offset from UTC, which other "
            "rows have; write it there too."
        )
    iso = iso.where(iso.str.fullmatch(_ISO), None)
    parsed = pd.to_datetime(iso, format="ISO8601", errors="coerce", utc=True)
    return ParsedTimes(_plain(parsed, text, column), f"{form}, in UTC" if zoned.any() else form)


def _plain(parsed: pd.Series[pd.Timestamp], text: pd.Series[str], column: str, date_format: str | None = None) -> Times:
    """Return datetime64[ns] where every cell could be read."""
    if parsed.isna().any():
        row = parsed.index[parsed.isna()][0]
        read = f"with date_format={date_format!r}" if date_format else "as a date"
        raise DataError(
            f"time column {column!r} holds {shown(text[row])} in row {row}, which cannot be read {read}; write it as "
            "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, or pass its form, as in date_format='%d.%m.%y %H:%M'."
        )
    try:
        return np.asarray(parsed.dt.tz_localize(None).dt.as_unit("ns").astype("datetime64[ns]"))
    except pd.errors.OutOfBoundsDatetime:
        raise DataError(f"time column {column!r} has a year outside 1678 to 2261; correct it.") from None


def _formatted(text: pd.Series[str], column: str, date_format: str) -> Times:
    if date_format not in _UNITS and "%" not in date_format:
        raise DataError(
            f"date_format={date_format!r} is unknown; use a form such as '%d.%m.%y', 's', 'ms' or 'number'."
        )
    try:
        if date_format in _UNITS:
            numbers = pd.to_numeric(text.where(text.str.fullmatch(r"[+-]?[0-9]{1,15}(?:\.[0-9]+)?")), errors="coerce")
            parsed = pd.to_datetime(numbers, unit="s" if date_format == "s" else "ms", errors="coerce", utc=True)
        else:
            parsed = pd.to_datetime(text, format=date_format, errors="coerce", utc=True)
    except (ValueError, re.error) as error:
        raise DataError(f"date_format={date_format!r} is no form of dates ({error}); see Python's strptime.") from None
    return _plain(parsed, text, column, date_format)


def _form(date_format: str) -> str:
    return f"{_UNITS[date_format]} since 1970" if date_format in _UNITS else f"dates as {date_format}"


def _compact(text: pd.Series[str]) -> str | None:
    """Return the form of dates without separators when every cell is one of the years 1800 to 2199."""
    if not text.str.fullmatch(r"(?:1[89]|2[01])[0-9]*").all() or text.str.len().nunique() != 1:
        return None
    pattern = _COMPACT.get(len(text.iloc[0]))
    if pattern is None or pd.to_datetime(text, format=pattern, errors="coerce").isna().any():
        return None
    return pattern


def _whole_or_dates(numbers: Times, text: pd.Series[str], column: str, pattern: str) -> ParsedTimes:
    dates = _formatted(text, column, pattern)
    if _is_regular(dates) and not _is_regular(numbers):
        return ParsedTimes(dates, f"{_form(pattern)}, as only dates have a regular step")
    raise DataError(
        f"time column {column!r} holds {text.iloc[0]!r}, which may be a date or a number; pass "
        f"date_format={pattern!r} or date_format='number'."
    )


def _is_regular(times: Times) -> bool:
    return len(times) > 2 and bool((times[1:] > times[:-1]).all()) and np.array_equal(regular_grid(times).times, times)


def _iso(parts: pd.DataFrame, day_first: bool) -> pd.Series[str]:
    day, month = (parts[0], parts[1]) if day_first else (parts[1], parts[0])
    return parts[2] + "-" + month.str.zfill(2) + "-" + day.str.zfill(2) + parts[3]


def _day_first(parts: pd.DataFrame, text: pd.Series[str], column: str) -> tuple[bool, str]:
    """Return whether the day comes first, and why where no cell says so."""
    first, second = (parts[position].astype(int) > 12 for position in (0, 1))
    if first.any() != second.any():
        return bool(first.any()), ""
    if not first.any():
        increasing = [
            bool(pd.to_datetime(_iso(parts, day_first), format="ISO8601", errors="coerce").is_monotonic_increasing)
            for day_first in (True, False)
        ]
        if increasing[0] != increasing[1]:
            return increasing[0], ", as only then times increase"
    mark = re.sub(r"[0-9]", "", text.iloc[0])[0]
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}.get(str(parts.iloc[0, 3]).count(":"), "")
    forms = (f"{mark.join(order)}{clock}" for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y")))
    raise DataError(
        f"time column {column!r} does not tell whether {shown(text.iloc[0])} starts with the day or the month; pass "
        + " or ".join(f"date_format={form!r}" for form in forms)
        + "."
    )
