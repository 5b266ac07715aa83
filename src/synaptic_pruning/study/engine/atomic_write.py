"""Write files whole or not at all."""

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` so that no reader ever sees half of it.

    The bytes go to a temporary file in the same folder, are flushed to disk, and the file is renamed.

    Raises:
        OSError: The folder cannot be written; `path` is then as it was before.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "a.txt", "whole")
        >>> (folder / "a.txt").read_text(), os.listdir(folder)
        ('whole', ['a.txt'])
    """
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_table(table: "pd.DataFrame", folder: Path, name: str = "results") -> None:
    """Write a study's table to `<name>.parquet`, compressed, and `<name>.csv`, each whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    write_atomically(folder / f"{name}.parquet", buffer.getvalue())
    write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
