"""Read the header of a packed safetensors file and check it against the file's length."""

import json
import math
import os
from typing import Any, BinaryIO

import torch

from synaptic_pruning.export.packed.checksum import checksum_holds, has_checksum

KEY = "synaptic_pruning"
VERSION = 3  # files of version 1 carry no checksum, and masks before 3 are never compressed
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class FileError(ValueError):
    """Raised for a file that is damaged or of another format."""


def read_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Read and check the header of an open file, its checksum first where it has one.

    Returns:
        Entries by name, packed tensors by name, and the position of the first data byte.

    Raises:
        FileError: The checksum differs, or the header is damaged or contradicts itself or the file's length.
    """
    length = os.fstat(file.fileno()).st_size
    first = file.read(8)
    size = int.from_bytes(first, "little")
    if len(first) < 8 or size > min(_MAX_HEADER, length - 8):
        raise FileError(
            f"its header should have {size} bytes, but the file has {length}: it is no safetensors file, or a part "
            "of one; give another, or copy it again"
        )
    sealed = has_checksum(file)
    if sealed and not checksum_holds(file):
        raise FileError("the file is damaged, for its checksum differs; copy it again")
    file.seek(8)
    text = file.read(size)
    if text[:1] != b"{" or text.rstrip(b" ")[-1:] != b"}":  # refused before a parser fills memory
        raise FileError("its header is damaged, or it is no safetensors file; copy it again, or give another")
    try:
        header = json.loads(text.decode())
        metadata = header.pop("__metadata__", {})
        ours: dict[str, Any] = json.loads(metadata[KEY]) if KEY in metadata else {"version": VERSION, "packed": {}}
        packed = ours["packed"]
        if ours["version"] not in (1, 2, VERSION):
            raise FileError(f"the file has format version {ours['version']}; this program reads up to {VERSION}")
        if KEY in metadata and ours["version"] != 1 and not sealed:
            raise FileError("the file is damaged: it should carry a checksum")
        _check(header, packed, length - 8 - size)
    except FileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"the file's header is damaged: {error or type(error).__name__}") from error
    return header, packed, 8 + size


def _check(header: dict[str, Any], packed: dict[str, Any], data: int) -> None:
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise FileError(f"{name} is of type {entry['dtype']!r}, but this program reads {', '.join(DTYPES)}")
        size = _numel(name, entry["shape"]) * DTYPES[entry["dtype"]].itemsize
        if type(begin) is not int or type(end) is not int or begin != position or end - begin != size:
            raise FileError(f"{name} should have {size} bytes from {position} on, but the file says {begin} to {end}")
        position = end
    if position != data:
        raise FileError(f"the tensors need {position} bytes, but the file holds {data}: truncated or with more behind")
    for name, entry in packed.items():
        mask, values = header[f"{name}::mask"], header[f"{name}::values"]
        if name in header:
            raise FileError(f"{name} is in the file twice, packed and plain")
        count = _numel(name, entry["shape"])
        wanted, stored = DTYPES[entry["dtype"]], DTYPES[values["dtype"]]
        size, stored_size = (count + 7) // 8, math.prod(mask["shape"])
        if mask["dtype"] != "U8" or len(mask["shape"]) != 1 or not size <= 8 * stored_size <= 8 * size:
            raise FileError(f"{name} has {count} weights, but its mask is {mask['dtype']} of shape {mask['shape']}")
        if len(values["shape"]) != 1 or values["shape"][0] > count:
            raise FileError(f"{name} has {count} weights, but values of shape {values['shape']}")
        scale = entry.get("scale", 1.0)
        if stored != wanted and stored not in (torch.float16, torch.int8):
            raise FileError(f"{name} is {wanted}, but its values are {stored}")
        if type(scale) is not float or not math.isfinite(scale):
            raise FileError(f"{name} has the scale {scale!r}; it must be a finite number")


def _numel(name: str, shape: Any) -> int:
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise FileError(f"{name} has the shape {shape!r}; it must be a list of whole numbers")
    if math.prod(max(n, 1) for n in shape) >= 2**63:
        raise FileError(f"{name} has the shape {shape!r}, too large for any tensor")
    return math.prod(shape)
