"""Decide how a time column is read: whole numbers or dates, the day or the month first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading.table import shown
from synaptic_pruning.tasks.forecasting.data.reading.timestamps import regular_grid
from synaptic_pruning.tasks.forecasting.data.series import Times

_ORDERS = {"day first": True, "month first": False}
_UNITS = {"s": "seconds", "ms": "milliseconds"}
_COMPACT = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_PIECE = 50_000
_ISO = r"\d{4}-\d{1,2}(?:-\d{1,2}(?:[ T].+)?)?|\d{4}|\d{8}T\d+.*"


class ParsedTimes(NamedTuple):
    """Times, and how they were read.

    Attributes:
        times: int64 or datetime64[ns], shape (rows,).
        form: How they were read, in words.
        date_format: What reads further cells alike where the column had to be asked, else None.
    """

    times: Times
    form: str
    date_format: str | None = None


def parse_times(text: pd.Series[str], column: str, date_format: str | None = None) -> ParsedTimes:
    """Parse text to int64 (when every cell is a whole number) or datetime64[ns].

    Dates are ISO 8601, or day/month/year or month/day/year with ``/``, ``.`` or ``-``; which of the two is
    decided by the first number above 12 in the column, else by which of them increases. Hours may be written
    18.00.00. Time zones are converted to UTC. Whole numbers that could be dates (20240131) are refused unless only as
    dates they have a regular step.

    Args:
        text: The cells; their index holds the rows of the file, for messages.
        column: Name of the time column, for messages.
        date_format: How the cells are written, as in ``"%d.%m.%y"``; ``"day first"`` or ``"month first"``; ``"s"`` or
            ``"ms"`` since 1970; or ``"number"``.

    Raises:
        DataError: A timestamp is missing or unreadable (its row is named), or the column can be read in two ways.

    Example:
        >>> times, form, again = parse_times(pd.Series(["30/04/2004 18.00.00", "01/05/2004 19.00.00"]), "when")
        >>> times.astype(str).tolist(), form, again
        (['2004-04-30T18:00:00.000000000', '2004-05-01T19:00:00.000000000'], 'dates, the day first', 'day first')
    """
    text = text.str.strip()
    empty = text.isna() | text.eq("")
    if empty.any():
        raise DataError(f"time column {column!r} is empty in row {text.index[empty][0]}; fill it or drop the row.")
    if date_format in _ORDERS:
        return _dates(text, column, _ORDERS[date_format])
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


def _dates(text: pd.Series[str], column: str, order: bool | None = None) -> ParsedTimes:
    """Read dates; the order of day and month is found out where it matters and is not given."""
    form, day_first = "dates as YYYY-MM-DD", None
    if all(_parts(piece).notna().all(axis=None) for piece in _pieces(text)):
        day_first, why = _day_first(text, column) if order is None else (order, "")
        form = f"dates, the {'day' if day_first else 'month'} first{why}"
    zoned = pd.concat([piece.str.contains(r"[T ]\d.*(?:Z|[+-]\d{2}(?::?\d{2})?)$") for piece in _pieces(text)])
    if zoned.any() != zoned.all():
        row = text.index[~zoned][0]
        raise DataError(
            f"time column {column!r} holds {shown(text[row])} in row {row} without an offset from UTC, which other "
            "rows have; write it there too."
        )
    times = _parsed(text, column, "ISO8601", lambda piece: _iso(piece, day_first))
    found = next((name for name, first in _ORDERS.items() if first == day_first), None)
    return ParsedTimes(times, f"{form}, in UTC" if zoned.any() else form, found)


def _pieces(text: pd.Series[str]) -> Iterator[pd.Series[str]]:
    """Hand out a column piece by piece, since pandas makes Python objects of all that it is given."""
    return (text.iloc[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _parsed(
    text: pd.Series[str],
    column: str,
    form: str,
    write: Callable[[pd.Series[str]], pd.Series[str]] = lambda piece: piece,
) -> Times:
    """Return datetime64[ns] where every cell can be read, once it is written anew."""
    found = []
    for piece in _pieces(text):
        if form in _UNITS:
            numbers = pd.to_numeric(piece.where(piece.str.fullmatch(r"[+-]?[0-9]{1,15}(?:\.[0-9]+)?")))
            dates = pd.to_datetime(numbers, unit="s" if form == "s" else "ms", errors="coerce", utc=True)
        else:
            dates = pd.to_datetime(write(piece), format=form, errors="coerce", utc=True)
        if dates.isna().any():
            row = dates.index[dates.isna()][0]
            read = "as a date" if form == "ISO8601" else f"with date_format={form!r}"
            raise DataError(
                f"time column {column!r} holds {shown(text[row])} in row {row}, which cannot be read {read}; write it "
                "as YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, or pass its form, as in date_format='%d.%m.%y %H:%M'."
            )
        try:
            found.append(np.asarray(dates.dt.tz_localize(None).dt.as_unit("ns"), "datetime64[ns]"))
        except pd.errors.OutOfBoundsDatetime:
            raise DataError(f"time column {column!r} has a year outside 1678 to 2261; correct it.") from None
    return np.concatenate(found)


def _formatted(text: pd.Series[str], column: str, date_format: str) -> Times:
    if date_format not in _UNITS and "%" not in date_format:
        raise DataError(
            f"date_format={date_format!r} is unknown; use a form such as '%d.%m.%y', 'day first', 's', 'ms' or "
            "'number'."
        )
    try:
        return _parsed(text, column, date_format)
    except (ValueError, re.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"date_format={date_format!r} is no form of dates ({error}); see Python's strptime.") from None


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


def _parts(piece: pd.Series[str]) -> pd.DataFrame:
    """Return two numbers, the year and the rest of each date, missing where it is no such date."""
    return piece.str.extract(r"^(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4})(.*)$")


def _iso(piece: pd.Series[str], day_first: bool | None) -> pd.Series[str]:
    """Write dates as ISO 8601, missing where that cannot be; ``day_first`` is None where the year comes first."""
    if day_first is None:
        iso = piece.str.replace(r"^(\d{4})[/. ](\d{1,2})[/. ](\d{1,2})", r"\1-\2-\3", regex=True)
    else:
        parts = _parts(piece)
        day, month = (parts[0], parts[1]) if day_first else (parts[1], parts[0])
        iso = parts[2] + "-" + month.str.zfill(2) + "-" + day.str.zfill(2) + parts[3]
    if iso.str.contains(r"[ T]\d{1,2}\.").any():
        iso = iso.str.replace(r"([ T]\d{1,2})\.(\d{2})$", r"\1:\2", regex=True)
        iso = iso.str.replace(r"([ T]\d{1,2})[.:](\d{2})\.(\d{2})$", r"\1:\2:\3", regex=True)
    return iso.where(iso.str.fullmatch(_ISO))


def _day_first(text: pd.Series[str], column: str) -> tuple[bool, str]:
    """Return whether the day comes first, and why where no cell says so."""
    largest = np.max([_parts(piece)[[0, 1]].astype(int).max() for piece in _pieces(text)], axis=0)
    if (largest > 12).sum() == 1:
        return bool(largest[0] > 12), ""
    if (largest <= 12).all():
        increasing = [_increases(text, day_first) for day_first in (True, False)]
        if increasing[0] != increasing[1]:
            return increasing[0], ", as only then times increase"
    mark = re.sub(r"[0-9]", "", text.iloc[0])[0]
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}.get(text.iloc[0].count(":"), "")
    forms = (f"{mark.join(order)}{clock}" for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y")))
    raise DataError(
        f"time column {column!r} does not tell whether {shown(text.iloc[0])} starts with the day or the month; pass "
        + " or ".join(f"date_format={form!r}" for form in forms)
        + "."
    )


def _increases(text: pd.Series[str], day_first: bool) -> bool:
    pieces = (pd.to_datetime(_iso(p, day_first), format="ISO8601", errors="coerce", utc=True) for p in _pieces(text))
    return bool(pd.concat(pieces).is_monotonic_increasing)
