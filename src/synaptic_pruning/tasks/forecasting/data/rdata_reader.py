"""Read tables from files that R's ``save`` wrote, compressed or plain."""

import warnings
from collections.abc import Sequence
from typing import Any


def read_rdata(content: bytes, name: str) -> dict[str, Sequence[Any]]:
    """Return the columns of one table by name: texts and numbers as R stores them, times as seconds since 1970.

    Args:
        content: Bytes of an ``.rda`` file.
        name: Name of the table in the file.

    Raises:
        ValueError: The file was not written by R's ``save``.
        LookupError: The file has no table of that name.
    """
    import rdata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said of R classes without a counterpart; only plain vectors are needed
            objects = rdata.conversion.convert(rdata.parser.parse_data(content), {})
    except Exception as error:  # the kind depends on where the parser stops
        raise ValueError(f"this is no file of R's save ({error})") from error
    return {str(column): values for column, values in objects[name].items()}
