"""Load a data set of the registry as a series."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from synaptic_pruning.tasks.download import fetch, read_checked
from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading import parse_times
from synaptic_pruning.tasks.forecasting.data.registry import Entry, find_entry
from synaptic_pruning.tasks.forecasting.data.series import Series, Times

Inputs = Literal["target", "all"]


def load(
    name: str, *, data_dir: str | Path | None = None, rows: int | None = None, inputs: Inputs = "target"
) -> Series:
    """Load a data set by its name in the registry, with the fixes that its entry notes.

    Rows stand as they come, also where the source has gaps; missing values stay NaN. The file is taken from
    ``data_dir``, else from SYNAPTIC_PRUNING_DATA, else from the cache, else from its public address. Those of
    `SHIPPED` are in the package and nowhere else.

    Args:
        name: Name in `DATASETS`.
        data_dir: Folder of local files.
        rows: Take at most so many rows, the first ones; at least 2.
        inputs: ``"target"`` for the target alone; ``"all"`` for every other usable column as a channel too.

    Raises:
        DataError: The name is unknown, an argument is out of range, or the file is missing or not the right one.

    Example:
        >>> load("etth3")
        Traceback (most recent call last):
        synaptic_pruning.tasks.errors.DataError: data set 'etth3' is unknown; did you mean ...
    """
    entry = find_entry(name)
    if rows is not None and rows < 2:
        raise DataError(f"rows={rows} must be at least 2; {name!r} has {entry.rows:,}.")
    if inputs not in ("target", "all"):
        raise DataError(f"inputs={inputs!r} is unknown; use 'target' or 'all'.")
    path = fetch(entry, data_dir)
    times, frame = _table(entry, read_checked(entry, path))
    frame = frame[[entry.target, *frame.columns.drop([entry.target, *entry.without])]]
    if inputs == "target":
        frame = frame[[entry.target]]
    values = frame.to_numpy(np.float64)[:rows]
    return Series(name, entry.target, tuple(frame.columns), times[:rows], values, entry.season)


def _table(entry: Entry, content: bytes) -> tuple[Times, pd.DataFrame]:
    """Return times and columns; text columns may be among those that are no inputs."""
    header = list(entry.header) or None
    frame = pd.read_csv(
        io.BytesIO(content),
        sep=entry.separator,
        decimal=entry.decimal,
        na_values=list(entry.missing),
        names=header,
        header=None if header else 0,
        encoding="utf-8",
        low_memory=False,
    )
    frame = frame.dropna(how="all").dropna(axis="columns", how="all")
    if entry.pivot:
        channel, value = entry.pivot
        frame = frame.pivot(index=frame.columns[0], columns=channel, values=value).dropna(axis="columns").reset_index()
    times: Times = np.arange(len(frame))
    if entry.time != "":
        columns = (entry.time or str(frame.columns[0])).split(",")
        text = frame[columns[0]].astype(str)
        for column in columns[1:]:
            text = text + " " + frame[column]
        times = parse_times(text, ",".join(columns)).times
        frame = frame.drop(columns=columns)
    kept = np.append(True, times[1:] > times[:-1])
    if entry.since:
        kept &= times >= np.datetime64(entry.since)
    if entry.until:
        kept &= times <= np.datetime64(entry.until)
    times, frame = times[kept], frame[kept]
    if entry.unmeasured:
        frame = frame.mask(frame[entry.unmeasured] == 0)
    if entry.clip:
        frame = frame.clip(*entry.clip)
    return times, frame
