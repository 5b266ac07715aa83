"""Decide how the cells of a column are read as numbers; refuse those that could be read in two ways."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from math import isinf, nan
from typing import NoReturn

import numpy as np

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading.table import shown
from synaptic_pruning.tasks.forecasting.data.series import Array

THOUSANDS = (",", ".", " ", "'")
_MISSING = {"", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"}
_MISSING |= {"NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
# No-break, figure, thin and narrow no-break spaces, the typographic apostrophe and minus.
_VARIANTS = str.maketrans({**dict.fromkeys("\u00a0\u2007\u2009\u202f", " "), "\u2019": "'", "\u2212": "-"})
_OTHER = {".": ",", ",": "."}
_NUMERIC = {"whole", "shaped", "decimal", "grouped", "proven"}


class Numbers:
    """How numbers are written in a file.

    Args:
        decimal: The decimal mark, a point or a comma; None for a point that cells may call into doubt.
        thousands: The mark between thousands: a comma, point, space or apostrophe; None for one that a cell must prove.
            A space stands for every kind of space.

    Raises:
        DataError: A mark is none of these, or both are the same.
    """

    def __init__(self, decimal: str | None, thousands: str | None) -> None:
        if decimal is not None and decimal not in _OTHER:
            raise DataError(f"decimal={decimal!r} is no decimal mark; use '.' or ','.")
        thousands = None if thousands is None else thousands.translate(_VARIANTS)
        if thousands is not None and thousands not in THOUSANDS:
            raise DataError(f"thousands={thousands!r} is no mark between thousands; use ',', '.', ' ' or \"'\".")
        if thousands is not None and thousands == decimal:
            raise DataError(
                f"thousands={thousands!r} and decimal={decimal!r} are the same mark; pass decimal={_OTHER[decimal]!r}."
            )
        self.decimal = decimal or ("," if thousands == "." else ".")
        self.thousands = thousands
        self.declared = decimal is not None or thousands is not None


class Column:
    """The cells of a column, read as numbers block by block.

    Every cell is of one kind, and what kinds there are decides whether the column can be read. A mark between
    thousands is proven by a cell that has no other reading: one with two marks (1,234,567), with both marks
    (1,234.5), or with a space or an apostrophe before three digits. Then it is read in the other cells too.
    A point before three digits is a decimal mark by default, but not beside whole numbers (851) if all points are so:
    the writer of decimals leaves out .000 no more often than other zeros.

    Args:
        name: Name of the column, for messages.
        numbers: How numbers are written.
        missing: Cells that mean "no value" beside empty ones, NA, NaN, null and the like.

    Attributes:
        kinds: Kinds of cells, with the row and the text of the first of each.
    """

    def __init__(self, name: str, numbers: Numbers, missing: Iterable[str | float]) -> None:
        self.name, self._numbers = name, numbers
        self.kinds: dict[str, tuple[int, str]] = {}
        self._absent = _MISSING | {str(mark) for mark in missing}
        self._absent_values = {float(mark) for mark in self._absent if re.fullmatch(_plain("."), mark)}
        self._proven: set[str] = set()
        self._values = array("d")

    def add(self, rows: Sequence[int], cells: Sequence[str]) -> None:
        """Read more cells; ``rows`` are their places in the file."""
        values: dict[str, float] = {}
        for cell in dict.fromkeys(cells):  # in most columns cells recur
            text = cell.strip()
            kind, values[cell] = self._read(text)
            if kind not in self.kinds:
                self.kinds[kind] = rows[cells.index(cell)], text
        self._values.extend(map(values.__getitem__, cells))

    def _read(self, text: str) -> tuple[str, float]:
        """Return the kind of a cell and its number, NaN where it has none."""
        if text in self._absent:
            return "missing", nan
        decimal = self._numbers.decimal
        plain = text if text.isascii() else text.translate(_VARIANTS)
        found = _pattern(decimal, self._numbers.thousands).fullmatch(plain)
        kind = (found and found.lastgroup) or "text"
        if kind == "boolean":
            return kind, float(plain.lower() == "true")
        if kind not in _NUMERIC:
            return kind, nan
        if kind in ("grouped", "proven"):
            mark = next(sign for sign in plain if sign in THOUSANDS and sign != decimal)
            plain = plain.replace(mark, "")
            if kind == "proven":
                self._proven.add(mark)
        value = float(plain.replace(decimal, "."))
        return ("infinite" if isinf(value) else kind), nan if value in self._absent_values else value

    @property
    def is_text(self) -> bool:
        """Return whether no cell is a number, however written."""
        return self.kinds.keys() <= {"missing", "text"}

    @property
    def is_whole(self) -> bool:
        """Return whether every cell is a whole number without marks between thousands."""
        return self.kinds.keys() == {"whole"}

    @property
    def has_decimals(self) -> bool:
        """Return whether some cell has, or may have, a decimal mark."""
        return not self.kinds.keys().isdisjoint({"decimal", "shaped", "proven"})

    @property
    def thousands(self) -> str | None:
        """Return the mark between thousands, None where no cell has one."""
        return min(self._proven, default=None)

    def values(self) -> Array:
        """Hand over the numbers as float64, NaN where missing.

        Raises:
            DataError: A cell is no finite number, or could be read in two ways; the row and the fix are named.
        """
        kinds, numbers = self.kinds, self._numbers
        wrong = kinds.keys() & {"text", "infinite", "foreign"}
        if "boolean" in kinds and not kinds.keys() <= {"boolean", "missing"}:
            wrong |= {"boolean"}
        if wrong:
            self._refuse(min(wrong, key=lambda kind: kinds[kind]))
        if "grouped" in kinds and _OTHER[numbers.decimal] not in self._proven:
            self._doubt("grouped", _OTHER[numbers.decimal])
        if "shaped" in kinds and "whole" in kinds and not numbers.declared and not kinds.keys() & {"decimal", "proven"}:
            self._doubt("shaped", numbers.decimal)
        if len(self._proven) > 1:
            marks = " and ".join(map(repr, sorted(self._proven)))
            raise DataError(f"column {shown(self.name)} has both {marks} between thousands; write all cells alike.")
        values, self._values = self._values, array("d")
        return np.frombuffer(values, np.float64) if values else np.empty(0)

    def _doubt(self, kind: str, mark: str) -> NoReturn:
        """Refuse a mark that may stand between thousands or before decimals."""
        row, cell = self.kinds[kind]
        raise DataError(
            f"column {shown(self.name)} holds {cell!r} in row {row}, and no cell tells whether that is "
            f"{cell.replace(mark, '')} or {cell.replace(mark, '.')}; pass thousands={mark!r} for the one or "
            f"decimal={mark!r} for the other."
        )

    def _refuse(self, kind: str) -> NoReturn:
        row, cell = self.kinds[kind]
        fix = f"correct it, or pass missing=[{shown(cell)}] if it means no value"
        if kind == "foreign":
            fix = f"correct it, or pass {self._convention(cell.translate(_VARIANTS))}"
        raise DataError(f"column {shown(self.name)} holds {shown(cell)} in row {row}, not a finite number; {fix}.")

    def _convention(self, cell: str) -> str:
        """Return the arguments under which a cell is a number."""
        decimal, mark = next(
            (decimal, mark)
            for decimal in _OTHER
            for mark in THOUSANDS
            if mark != decimal and re.fullmatch(f"{_plain(decimal)}|{_grouped(decimal, mark)}", cell)
        )
        arguments = []
        if decimal != self._numbers.decimal:
            arguments.append(f"decimal={decimal!r}")
        if mark in cell:
            arguments.append(f"thousands={mark!r}")
        elif self._numbers.thousands == decimal:
            arguments.append(f"no thousands={decimal!r}")
        return " and ".join(arguments)


def _plain(decimal: str) -> str:
    return rf"[+-]?(?:[0-9]+{re.escape(decimal)}?[0-9]*|{re.escape(decimal)}[0-9]+)(?:[eE][+-]?[0-9]+)?"


def _grouped(decimal: str, mark: str) -> str:
    """Return the pattern of numbers with marks between thousands; those of India stand between hundreds above them."""
    many = rf"(?:{re.escape(mark)}[0-9]{{3}})+"
    indian = r"|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}" if mark == "," else ""
    return rf"[+-]?(?:[1-9][0-9]{{0,2}}{many}{indian})(?:{re.escape(decimal)}[0-9]+)?"


@cache
def _pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    """Return a pattern whose last group names the kind of a cell."""
    other = _OTHER[decimal]
    marks = [mark for mark in THOUSANDS if mark != decimal] if thousands is None else [thousands]
    kinds = {
        "whole": r"[+-]?[0-9]+",
        "shaped": rf"[+-]?[1-9][0-9]{{0,2}}{re.escape(decimal)}[0-9]{{3}}",
        "decimal": _plain(decimal),
        "grouped": rf"[+-]?[1-9][0-9]{{0,2}}{re.escape(other)}[0-9]{{3}}" if thousands != other else "(?!)",
        "proven": "|".join(_grouped(decimal, mark) for mark in marks if mark != decimal),
        "boolean": "(?i:true|false)",
        "infinite": "[+-]?(?i:inf|infinity)",
        "foreign": "|".join([_plain(other), *(_grouped(d, m) for d in _OTHER for m in THOUSANDS if m != d)]),
    }
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()))
