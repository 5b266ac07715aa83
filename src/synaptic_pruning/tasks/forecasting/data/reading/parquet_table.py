"""Open a Parquet file and hand out its cells as a CSV file does, so that both are read alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.data.reading.table import Block, shown


class ParquetTable:
    """A Parquet file; a named index that pandas wrote comes first.

    Args:
        path: The file.

    Attributes:
        header: Names of the columns.
        encoding: "Parquet".

    Raises:
        DataError: The file cannot be opened, or two columns have one name.
    """

    encoding = "Parquet"

    def __init__(self, path: Path) -> None:
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error).splitlines()[0].rstrip(".")
            raise DataError(f"{path} cannot be opened ({reason}); check the path and that it is whole.") from None
        self._frame = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
        self.header = [str(name) for name in self._frame.columns]
        for position, name in enumerate(self.header):
            if name in self.header[:position]:
                raise DataError(f"column {shown(name)} stands twice in {path.name}; rename one of them.")

    def blocks(self) -> Iterator[Block]:
        """Hand out all rows, the first of which is row 1."""
        if len(self._frame):
            columns = [_cells(self._frame.iloc[:, place]) for place in range(len(self.header))]
            yield Block(list(range(1, len(self._frame) + 1)), columns)


def _cells(column: pd.Series) -> tuple[str, ...]:
    """Write values as text that reads back to the last bit."""
    absent = column.isna()
    if pd.api.types.is_datetime64_any_dtype(column):
        texts = column.map(lambda value: "" if value is pd.NaT else value.isoformat(" "))
    elif pd.api.types.is_float_dtype(column):
        texts = column.astype("float64").map(repr)
    else:
        texts = column.astype(object).map(str)
    return tuple(texts.astype(object).mask(absent, ""))
