"""List the public data sets by name: their source, how to read the file, and what a study may use.

The table is `datasets.toml` beside this module. Nothing here touches a data file or the network.
"""

import difflib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from synaptic_pruning.tasks.download import Conversion
from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.builtin import shipped_file
from synaptic_pruning.tasks.forecasting.data.conversions import CONVERSIONS


@dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
        name: Unique name in kebab case.
        description: What was measured.
        source: Publisher, in words.
        home: Page of the source.
        licence: Licence of the data, as commonly stated; some forbid to pass the file on.
        file: Path below the data folder; the name may lack .xz or .gz, or have the other of the two.
        bytes: Size of the unpacked file.
        sha256: SHA-256 of the unpacked file, so that a compressed copy and a plain one are checked alike.
        target: The column to forecast.
        frequency: Frequency of the rows, in words.
        season: Rows in a season, 1 for none; the shortest season where there are several.
        rows: Number of rows of the series that `load` returns.
        url: Public address of the file, or of one that it is made of.
        member: File to take out of the archive at ``url``.
        rewrite: Replacements in the content of ``url``: pairs (regular expression, text), applied in order; ``^`` and
            ``$`` stand for the ends of a line.
        keep: Number of bytes of the result to keep, from its start.
        block: Name of the source; data sets that share it count once in a statistic. By default the data set's name.
        separator: Character between cells.
        decimal: Decimal mark.
        missing: Cells that mean "no value" beside empty ones.
        header: Names of the columns of a file without header.
        time: Time column, or two to join, ``"Date,Time"``; by default the first column, "" for none.
        pivot: For a long table: the columns that name the channel and hold its value.
        since: First day taken.
        until: Last day taken.
        unmeasured: Column whose 0 says that nothing was measured in the row.
        clip: Lowest and highest credible value.
        without: Columns that are no inputs: text, labels, and parts of the target.
        note: What to know before use.
        part_of: Data set whose first rows these are, which ship with the package; "" for all others.
    """

    name: str
    description: str
    source: str
    home: str
    licence: str
    file: str
    bytes: int
    sha256: str
    target: str
    frequency: str
    season: int
    rows: int
    url: str
    member: str | None = None
    rewrite: tuple[tuple[str, str], ...] = ()
    keep: int | None = None
    block: str = ""
    separator: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    time: str | None = None
    pivot: tuple[str, str] | None = None
    since: str | None = None
    until: str | None = None
    unmeasured: str | None = None
    clip: tuple[float, float] | None = None
    without: tuple[str, ...] = ()
    note: str = ""
    part_of: str = ""

    def __post_init__(self) -> None:
        if not self.block:
            object.__setattr__(self, "block", self.name)

    @property
    def convert(self) -> Conversion | None:
        """Return the function that makes the file out of the one at ``url``, where ``rewrite`` and ``keep`` do not."""
        return CONVERSIONS.get(self.name)

    @property
    def shipped(self) -> Path | None:
        """Return the path of the file where it ships with the package, else None."""
        return shipped_file(self.name) if self.part_of else None


def find_entry(name: str) -> Entry:
    """Return the entry called ``name``.

    Raises:
        DataError: There is no such entry; the closest names are given.

    Example:
        >>> find_entry("etth1").block == find_entry("ettm1").block
        True
    """
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name.lower(), DATASETS, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(map(repr, close))}?" if close else f"choose from {', '.join(DATASETS)}."
    raise DataError(f"data set {name!r} is unknown; {fix}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_SHARED = ("source", "home", "licence", "url", "target", "frequency", "season")
"""What a part has of the whole."""


def _table() -> dict[str, Entry]:
    table = tomllib.loads(files(__package__).joinpath("datasets.toml").read_text("utf-8"))
    found: dict[str, Entry] = {}
    for name, row in table.items():
        if "part_of" in row:
            whole = found[row["part_of"]]
            row = {key: getattr(whole, key) for key in _SHARED} | {"block": whole.block, "file": f"{name}.csv.gz"} | row
        found[name] = Entry(name, **{key: _tuples(value) for key, value in row.items()})
    return found


DATASETS: dict[str, Entry] = _table()
"""Every data set, by name."""

SHIPPED: tuple[str, ...] = tuple(name for name, entry in DATASETS.items() if entry.part_of)
"""Names of those that ship with the package."""
