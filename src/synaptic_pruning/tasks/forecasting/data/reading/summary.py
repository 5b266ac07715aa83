"""Say in one line how a file was read."""

import re

import numpy as np

from synaptic_pruning.tasks.forecasting.data.reading.numbers import Column, Numbers
from synaptic_pruning.tasks.forecasting.data.reading.table import listed, shown
from synaptic_pruning.tasks.forecasting.data.series import Array

_ENCODINGS = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}


def summary(
    name: str,
    *,
    times: str,
    filled: int,
    channels: list[Column],
    values: Array,
    left_out: list[str],
    why: str,
    numbers: Numbers,
    separator: str,
    encoding: str,
) -> str:
    """Return the line.

    Args:
        name: Name of the file.
        times: Where times come from, and their form.
        filled: Rows that were filled in.
        channels: Columns that were read as numbers, the target first.
        values: Their values, shape (rows, channels).
        left_out: Names of columns that are no inputs.
        why: Why they are none.
        numbers: How numbers are written.
        separator: The character between cells.
        encoding: Encoding of the text, or "Parquet", which has neither separators nor marks.
    """
    names = [column.name for column in channels]
    absent = np.isnan(values).mean(axis=0)
    shares = [f"{100 * share:.2g} % of {name}" for name, share in zip(names, absent, strict=True) if share]
    marks = {
        mark: [c.name for c in channels if c.thousands == mark]
        for mark in sorted({c.thousands or "" for c in channels})
    }
    thousands = [f"{mark!r} between thousands in {listed(of)}" for mark, of in marks.items() if mark]
    parts = [
        f"{name}: {len(values):,} rows",
        times,
        f"{filled:,} missing rows filled in" if filled else "",
        f"target {shown(names[0])}",
        f"inputs {listed(names[1:])}" if names[1:] else "",
        f"left out, as {why}, {listed(left_out)}" if left_out else "",
        f"missing {listed(shares)}" if shares else "no value missing",
        *_nines(names, values),
    ]
    if encoding != "Parquet":
        parts += [
            f"{separator!r} between cells",
            f"decimal mark {numbers.decimal!r}",
            *(thousands or ["no mark between thousands"]),
        ]
    parts.append(_ENCODINGS.get(encoding, encoding))
    return "; ".join(part for part in parts if part) + "."


def _nines(names: list[str], values: Array) -> list[str]:
    """Name numbers such as -9999 that may mean "no value"; they are kept."""
    found = []
    for name, column in zip(names, values.T, strict=True):
        lowest = np.nanmin(column, initial=0)
        times = int((column == lowest).sum())
        if times > 1 and re.fullmatch(r"-99+", f"{lowest:.15g}"):
            found.append(f"{lowest:.15g} stands {times:,} times in {listed([name])} and counts as a number")
    return found
