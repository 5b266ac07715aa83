"""Make CSV files and damage them, each from a seed."""

import bz2
import gzip
import io
import lzma
import random
import zipfile
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pandas as pd
import pyarrow
import pyarrow.parquet

Damage = Callable[[bytes, random.Random], bytes]


class Damaged(NamedTuple):
    """A damaged file.

    Attributes:
        name: Name of the file, which tells its compression.
        content: Its bytes.
        options: Arguments that read the whole file.
        damage: What was done to it.
    """

    name: str
    content: bytes
    options: dict[str, str]
    damage: str


def _whole(rng: random.Random) -> tuple[dict[str, str], str]:
    """A file without damage in one of four styles, and the arguments that read it."""
    rows = rng.randrange(20, 200)
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2024-01-01", periods=rows)]
    numbers = [(round(rng.gauss(0, 50), 2), rng.randrange(10**6)) for _ in days]
    german = [(f"{y:.2f}".replace(".", ","), f"{x:,}".replace(",", ".")) for y, x in numbers]
    styles: list[tuple[dict[str, str], list[str]]] = [
        ({}, ["day,y,x", *(f"{day},{y},{x}" for day, (y, x) in zip(days, numbers, strict=True))]),
        ({}, ['y,x,"a place"', *(f'{y},{x},"here, or there"' for y, x in numbers)]),
        (
            {"separator": ";", "decimal": ",", "thousands": "."},
            ["day;y;x", *(f"{day};{y};{x}" for day, (y, x) in zip(days, german, strict=True))],
        ),
        (
            {"separator": "\t"},
            ["unique_id\tds\ty", *(f"{i}\t{n}\t{y}" for i in "AB" for n, (y, _) in enumerate(numbers))],
        ),
    ]
    options, lines = rng.choice(styles)
    return options, "".join(line + rng.choice(("\n", "\r\n")) for line in lines)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _leave_out(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.randrange(1, 200) :]


def _shuffle(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def _insert(what: Callable[[random.Random], bytes]) -> Damage:
    def insert(data: bytes, rng: random.Random) -> bytes:
        place = rng.randrange(len(data))
        return data[:place] + what(rng) + data[place:]

    return insert


@cache
def _million() -> bytes:
    return b",".join(b"c%d" % n for n in range(10**6))


def _parquet(data: bytes, rng: random.Random) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"y": [rng.random() for _ in range(99)]}), target)
    return target.getvalue()


def _zip(data: bytes, rng: random.Random | None = None, files: int = 1) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(files):
            archive.writestr(f"{number}.csv", data)
    return target.getvalue()


DAMAGES: dict[str, Damage] = {
    "cut": _cut,
    "bytes flipped": _flip,
    "a piece left out": _leave_out,
    "lines shuffled": _shuffle,
    "a NUL": _insert(lambda rng: b"\0" * rng.randrange(1, 9)),
    "a quote": _insert(lambda rng: b'"'),
    "quotes": _insert(lambda rng: rng.choice((b'""', b',"', b'",', b'"\n', b'\n"'))),
    "a line break": _insert(lambda rng: rng.choice((b"\n", b"\r", b"\r\n", b"\n\n\n"))),
    "separators": _insert(lambda rng: rng.choice((b",", b";", b"\t", b",,,,"))),
    "noise": _insert(lambda rng: rng.randbytes(rng.randrange(1, 99))),
    "another encoding": _insert(lambda rng: rng.choice(("é€".encode("cp1252"), "é€".encode("utf-16"), "é😀".encode()))),
    "a long cell": _insert(lambda rng: b"7" * rng.randrange(10**5, 10**6)),
    "a huge line": _insert(lambda rng: b"1.5," * 500_000),
    "a huge line in quotes": _insert(lambda rng: b'"' + b"1.5,\n" * 400_000),
    "a million columns": lambda data, rng: _million() + b"\n" + data,
    "many columns": lambda data, rng: b",".join(b"c%d" % n for n in range(rng.randrange(9_000, 90_000))) + b",y\n1,2\n",
    "UTF-16": lambda data, rng: _cut(data.decode().encode("utf-16"), rng),
    "UTF-16 without mark": lambda data, rng: data.decode().encode("utf-16-le"),
    "a byte order mark": lambda data, rng: b"\xef\xbb\xbf" + data,
    "line ends of old": lambda data, rng: b"\r".join(data.splitlines()),
    "blank lines": lambda data, rng: b"\n\r\n" + data + b"\n" * rng.randrange(9),
    "Windows-1252": lambda data, rng: data.replace(b"place", "Käse".encode("cp1252")),
    "empty": lambda data, rng: b"",
    "blank": lambda data, rng: b" \n\r\n" * rng.randrange(9),
    "header alone": lambda data, rng: data.splitlines()[0],
    "without header": lambda data, rng: b"\n".join(data.splitlines()[1:]),
    "noise alone": lambda data, rng: rng.randbytes(rng.randrange(1, 10**5)),
    "Parquet": _parquet,
    "PNG": lambda data, rng: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + rng.randbytes(999),
    "zip by another name": _zip,
    "gzip by another name": lambda data, rng: gzip.compress(data),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": _zip,
}
KINDS = [*DAMAGES, *PACKED, "two files"]


def damaged(seed: int) -> Damaged:
    """Return the damaged file of a seed; every kind of damage has its turn."""
    rng = random.Random(seed)
    options, text = _whole(rng)
    data, kind = text.encode(), KINDS[seed % len(KINDS)]
    if kind == "two files":
        return Damaged("data.zip", _zip(data, files=2), options, kind)
    if kind in PACKED:
        damage = rng.choice((_cut, _flip, _leave_out))
        return Damaged(f"data.csv{kind}", damage(PACKED[kind](data), rng), options, kind)
    return Damaged("data.csv", DAMAGES[kind](data, rng), options, kind)
