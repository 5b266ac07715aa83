"""Open a CSV file and hand out its cells in blocks; refuse what is no table."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from synaptic_pruning.tasks.errors import DataError

MOST_COLUMNS = 10_000
LONGEST_ROW = 2**20
_BLOCK = 50_000  # cells
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files of Excel and LibreOffice begin, also the older ones."""
_Row = tuple[int, list[str]]


class Block(NamedTuple):
    """Some rows of a table, without those whose cells are all empty.

    Attributes:
        rows: Place of every row in the file; the header of most files is row 1.
        columns: The cells, column by column.
    """

    rows: list[int]
    columns: list[tuple[str, ...]]


class Table:
    """A CSV file (plain, .gz, .bz2, .xz or .zip) with one header row.

    Text is UTF-8, UTF-16 with a byte order mark, or else Windows-1252, unless an encoding is given. Empty lines and
    Excel's line ``sep=;`` may come before the header. No more than a block of rows is held at once, whatever the file
    holds.

    Args:
        path: The file.
        separator: The character between cells.
        encoding: Encoding of the text; None finds it out.

    Attributes:
        header: Names of the columns; "column 3" for one without a name.
        encoding: Encoding of the text.

    Raises:
        DataError: The file cannot be opened, is no text of that encoding, or its first row is no header.
    """

    def __init__(self, path: Path, separator: str, encoding: str | None = None) -> None:
        self._path, self._separator = path, separator
        self._header_row = 0
        self._given = encoding is not None
        if encoding is None:
            with self._opened() as file:
                if file.peek(8).startswith(_SPREADSHEETS):  # type: ignore[attr-defined]
                    raise DataError(f"{path.name} is a spreadsheet; save it as CSV (UTF-8) or Parquet and give that.")
                self.encoding = _encoding(file)
        else:
            self.encoding = _known(encoding)
        with self._rows() as rows:
            place, header = next(rows, (0, []))
            if header and header[0].startswith("sep="):
                self._check_separator(header)
                place, header = next(rows, (0, []))
        if not header:
            raise DataError(f"{path.name} is empty; give a CSV file with a header row and at least two rows.")
        if len(header) > MOST_COLUMNS:
            raise DataError(
                f"{path.name} has {len(header):,} columns, more than {MOST_COLUMNS:,}; write those that matter to a "
                "file of their own."
            )
        self._header_row = place
        self.header = [name.strip() or f"column {position}" for position, name in enumerate(header, 1)]
        for position, name in enumerate(self.header):
            if name in self.header[:position]:
                raise DataError(f"column {shown(name)} stands twice in the header of {path.name}; rename one of them.")

    def blocks(self) -> Iterator[Block]:
        """Hand out the rows below the header.

        Raises:
            DataError: A row is longer or shorter than the header, or its quotes are damaged; the row is named.
        """
        width = len(self.header)
        size = max(1, _BLOCK // width)
        with self._rows() as rows:
            below = ((place, row) for place, row in rows if place > self._header_row and any(row))
            below = ((place, row if len(row) == width else self._fit(place, row)) for place, row in below)
            while block := list(islice(below, size)):
                yield Block([place for place, _ in block], list(zip(*(row for _, row in block), strict=True)))

    def _fit(self, place: int, row: list[str]) -> list[str]:
        """Return a row as long as the header; empty cells at its end may be too many."""
        width = len(self.header)
        if len(row) < width or any(row[width:]):
            raise DataError(
                f"{self._path.name} cannot be read as a table separated by {self._separator!r}: row {place} has "
                f"{len(row):,} cell(s) and the header {width:,}; make every row as long as the header or pass the "
                "right separator."
            )
        return row[:width]

    def _check_separator(self, line: list[str]) -> None:
        if line != [f"sep={self._separator}"] and line != ["sep=", ""]:
            raise DataError(f"{self._path.name} says {shown(line[0])} in its first line; pass that separator.")

    @contextmanager
    def _rows(self) -> Iterator[Iterator[_Row]]:
        """Give the rows that are no empty line, each with its place in the file."""
        with self._opened() as file, io.TextIOWrapper(file, self.encoding, newline="") as text:
            yield self._parse(_Lines(text, self._path.name))

    def _parse(self, lines: _Lines) -> Iterator[_Row]:
        place, reader = 0, csv.reader(lines, delimiter=self._separator, strict=True)
        while True:
            place += 1
            lines.begin_row(place)
            try:
                row = next(reader, None)
            except csv.Error as error:
                reason = str(error).encode("unicode_escape").decode()  # it may name a tab
                raise DataError(
                    f"{self._path.name} cannot be read as a table: {reason} in row {place}; mend the quotes there."
                ) from None
            if row is None:
                return
            if lines.taken > 1 and self._header_row:
                raise DataError(
                    f"{self._path.name} has a cell with a line break in row {place}; take the break out, or close the "
                    "quotes there."
                )
            if row:
                yield place, row

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with _unpacked(self._path) as file:
                yield file
        except UnicodeDecodeError:
            what = repr(self.encoding) if self._given else "UTF-8, UTF-16 or Windows-1252"
            raise DataError(
                f"{self._path.name} is no text in {what}; pass its encoding, such as encoding='cp1250', "
                "encoding='shift_jis' or encoding='latin-1'."
            ) from None
        except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
            if isinstance(error, DataError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self._path} cannot be opened ({reason}); check the path and that it is whole.") from None


class _Lines:
    """The lines of a text, each no longer than a row may be, and without NUL.

    Attributes:
        taken: Number of lines since the row began.
    """

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self._text, self._name = text, name

    def begin_row(self, place: int) -> None:
        self._place, self._left, self.taken = place, LONGEST_ROW, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        self.taken += 1
        self._left -= len(line)
        if "\0" in line:
            raise DataError(
                f"{self._name} holds a NUL character in row {self._place}, so it is no text; save it as CSV in UTF-8."
            )
        if self._left < 0:
            raise DataError(
                f"{self._name} has a row of more than {LONGEST_ROW:,} characters, row {self._place}; "
                "break it into rows, or close the quotes there."
            )
        if not line:
            raise StopIteration
        return line


def shown(text: str) -> str:
    """Write a cell in a message: quoted, on one line, and no more than the beginning of a long one.

    Example:
        >>> shown("a" * 100)
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'"
    """
    return repr(text if len(text) <= 60 else f"{text[:40]}…")


def listed(names: list[str], most: int = 8) -> str:
    """Write names in a message, and of many only some.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    few = ", ".join(name if len(name) <= 60 and name.isprintable() else shown(name) for name in names[:most])
    return few if len(names) <= most else f"{few} and {len(names) - most:,} more"


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise DataError(f"{path.name} holds {len(names)} files; unpack it and give one of them.")
            with archive.open(names[0]) as file:
                yield file
    else:
        openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
        with openers.get(suffix, open)(path, "rb") as file:
            yield file


def _encoding(file: IO[bytes]) -> str:
    """Return UTF-16 where the file begins with its mark, UTF-8 where the whole file is, or else Windows-1252."""
    piece = file.read(2**16)
    for mark, encoding in _MARKS.items():
        if piece.startswith(mark):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece:
            decoder.decode(piece)
            piece = file.read(2**16)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise DataError(
            f"encoding={encoding!r} is unknown; use a name such as 'utf-8', 'cp1250', 'latin-1' or 'shift_jis'."
        ) from None
    return encoding
