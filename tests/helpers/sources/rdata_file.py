"""Write a table as an RData file."""

import lzma
from typing import Any

import numpy as np
from rdata.conversion import ConverterFromPythonToR
from rdata.conversion.to_r import build_r_list, convert_python_to_r_data
from rdata.parser import RObject, RObjectType
from rdata.unparser import unparse_data


def _give(to_r: ConverterFromPythonToR, thing: RObject, **attributes: Any) -> None:
    """Add attributes to those that it has."""
    given = [
        (to_r.convert_to_r_sym(name.replace("_", ".")), to_r.convert_to_r_object(v)) for name, v in attributes.items()
    ]
    linked = build_r_list(given)
    if thing.attributes is not None:
        last = linked
        while last.value[1].info.type is RObjectType.LIST:
            last = last.value[1]
        last.value = (last.value[0], thing.attributes)
    thing.attributes, thing.info.attributes, thing.info.object = linked, True, True


def pedestrian(sensors: list[str], seconds: list[float], counts: list[int]) -> bytes:
    """What ``save`` writes of the tsibble of that name, but for attributes that say nothing of its cells."""
    columns = {
        "Sensor": np.array(sensors),
        "Date_Time": np.array(seconds, dtype=float),
        "Date": np.array(seconds, dtype=float) // 86_400,
        "Time": (np.array(seconds) // 3600 % 24).astype(np.int32),
        "Count": np.array(counts, dtype=np.int32),
    }
    data = convert_python_to_r_data({"pedestrian": columns}, file_type="rda")
    table, to_r = data.object.value[0], ConverterFromPythonToR()  # of one file: it knows names that it has written
    _give(to_r, table.value[1], **{"class": np.array(["POSIXct", "POSIXt"])}, tzone=np.array(["Australia/Melbourne"]))
    _give(to_r, table.value[2], **{"class": np.array(["Date"])})
    _give(
        to_r,
        table,
        **{"class": np.array(["tbl_ts", "tbl_df", "tbl", "data.frame"])},
        row_names=np.array([-(2**31), -len(counts)], dtype=np.int32),
    )
    return lzma.compress(unparse_data(data, file_type="rda"))
