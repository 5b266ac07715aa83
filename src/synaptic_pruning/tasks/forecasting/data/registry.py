"""The data sets by name: where each comes from, how its file is read, what a study may take from it.

The table is `datasets.toml` beside this module. Nothing here touches a data file or the network.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from synaptic_pruning.tasks.download import Derive
from synaptic_pruning.tasks.forecasting.data.conversions import ORIGINALS
from synaptic_pruning.tasks.forecasting.data.series import DataError


@dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
        name: In kebab case, unique.
        description: What was measured.
        source: Who published it, in words.
        home: Page of the source.
        licence: Of the data, as commonly stated; some forbid to pass the file on.
        file: Path below the data folder; the same name without, or with another of, .xz and .gz will do.
        bytes: Size of the unpacked file.
        sha256: Of the unpacked file, so that a compressed copy and a plain one are checked alike.
        target: The column to forecast.
        frequency: Of the rows, in words.
        season: Rows in a season, 1 for none; the shortest one where there are several.
        rows: Of the series that `load` returns.
        url: Address of a file that gives these bytes.
        member: File to take out of the archive at ``url``.
        rewrite: What is replaced in what ``url`` gives, one (regular expression, text) after the other; ``^`` and ``$``
            stand for the ends of a line.
        keep: How many bytes of the result to keep, from its start.
        block: Data sets of one source share a block and count once in a statistic; default the name.
        separator: Character between cells.
        decimal: Decimal mark.
        missing: Cells that mean "no value" beside empty ones.
        header: Names of the columns of a file without header.
        time: Time column, or two to join, ``"Date,Time"``; default the first column, "" for none.
        pivot: Of a long table: the columns that name the channel and hold its value.
        since: First day taken.
        until: Last day taken.
        unmeasured: Column whose 0 says that nothing was measured in the row.
        clip: Lowest and highest credible value.
        without: Columns that are no inputs: text, labels, and what would give the target away.
        note: What to know before use.
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

    def __post_init__(self) -> None:
        if not self.block:
            object.__setattr__(self, "block", self.name)

    @property
    def derive(self) -> Derive | None:
        """What makes the file out of the one at ``url``, where ``rewrite`` and ``keep`` do not."""
        return ORIGINALS.get(self.name)


def find(name: str) -> Entry:
    """Return the entry called ``name``.

    Raises:
        DataError: There is none; the closest names are given.

    Example:
        >>> find("etth1").block == find("ettm1").block
        True
    """
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name.lower(), DATASETS, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(map(repr, close))}?" if close else f"choose from {', '.join(DATASETS)}."
    raise DataError(f"data set {name!r} is unknown; {fix}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _table() -> dict[str, Entry]:
    table = tomllib.loads(files(__package__).joinpath("datasets.toml").read_text("utf-8"))
    return {name: Entry(name, **{key: _tuples(value) for key, value in row.items()}) for name, row in table.items()}


DATASETS: dict[str, Entry] = _table()
"""Every data set, by name."""
