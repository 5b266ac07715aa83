"""Tables out of what R's ``save`` wrote, packed as it may be."""

import warnings
from collections.abc import Sequence
from typing import Any


def read_table(content: bytes, name: str) -> dict[str, Sequence[Any]]:
    """Return the columns of one table by name: texts and numbers as R stores them, times as seconds since 1970.

    Args:
        content: Of an ``.rda`` file.
        name: What the table is called in it.

    Raises:
        ValueError: It is no such file.
        LookupError: It holds no table of that name.
    """
    import rdata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that have no counterpart here; the plain vectors are wanted
            objects = rdata.conversion.convert(rdata.parser.parse_data(content), {})
    except Exception as error:  # of many kinds, depending on where another file stops to look like one of R's
        raise ValueError(f"this is no file of R's save ({error})") from error
    return {str(column): values for column, values in objects[name].items()}
