"""Files a tenth of the size: a safetensors file with one bit a weight for the mask and the surviving values
packed.

A tensor `NAME` with zeros worth packing is stored as two tensors: `NAME::mask`, a bit a weight (the first
weight in the lowest bit of the first byte), and `NAME::values`, the weights whose bit is set, in order. Every
other tensor is stored as it is. The file's metadata holds, under the key `synaptic_pruning`, JSON with the
format's version and the shape and dtype of each packed tensor. Any safetensors reader opens the file; only
the unpacking is ours.

Files are read and written one tensor at a time, so that memory peaks at about one layer above the model.
Nothing in a file is executed, and nothing is allocated before its size has been checked against the file's
own length.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor, nn

Values = Literal["float32", "float16", "int8"]
_KEY = "synaptic_pruning"
_VERSION = 1
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself
_DTYPES = {
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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class FileError(ValueError):
    """A file that is not what it says it is."""


def save(model: nn.Module, path: str | os.PathLike[str], values: Values = "float32") -> None:
    """Write the model's `state_dict` to `path` with its zeros packed away.

    Args:
        model: any module; tied tensors are written once under each name.
        path: the file, replaced only when complete.
        values: how surviving floating-point weights of packed tensors are kept. "float32" is lossless: values
            keep their own dtype, bit for bit (of a packed tensor, minus zero comes back as zero). "float16"
            rounds to half precision: relative error at most 2⁻¹¹ (4.9e-4) for sizes from 6.1e-5 to 65504.
            "int8" keeps 255 levels a tensor: absolute error at most max|w| / 254.

    Raises:
        ValueError: `values` is something else, a weight does not fit float16, or int8 is asked for non-finite
            weights.

    >>> import tempfile
    >>> layer = nn.Linear(64, 64)
    >>> with torch.no_grad():
    ...     layer.weight[:, 4:] = 0
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(layer, f"{folder}/net.safetensors")
    ...     size = Path(f"{folder}/net.safetensors").stat().st_size
    ...     state = load(f"{folder}/net.safetensors")
    >>> size < 64 * 64 * 4 // 4, state["weight"].equal(layer.weight)
    (True, True)
    """
    save_state(model.state_dict(), path, values)


def save_state(state: Mapping[str, Any], path: str | os.PathLike[str], values: Values = "float32") -> None:
    """`save` for tensors by name; see there."""
    if values not in ("float32", "float16", "int8"):
        raise ValueError(f'values must be "float32", "float16" or "int8", not {values!r}')
    header: dict[str, Any] = {}
    packed: dict[str, Any] = {}
    parts: list[Callable[[], Iterable[Tensor]]] = []
    position = 0

    def add(name: str, dtype: torch.dtype, shape: list[int]) -> None:
        nonlocal position
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [position, position + size]}
        position += size

    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in _NAMES:
            raise ValueError(
                f"{name} must be a tensor of a type safetensors knows, not {getattr(tensor, 'dtype', type(tensor))}"
            )
        alive = _alive(tensor)
        if not _worth_packing(tensor, alive):
            add(name, tensor.dtype, list(tensor.shape))
            parts.append(lambda tensor=tensor: [tensor.detach().cpu()])  # type: ignore[misc]
            continue
        kept = _value_dtype(tensor, values)
        packed[name] = {"shape": list(tensor.shape), "dtype": _NAMES[tensor.dtype]}
        if kept == torch.int8 != tensor.dtype:
            packed[name]["scale"] = _scale(name, tensor)
        if kept == torch.float16 != tensor.dtype and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
            raise ValueError(f"{name} holds weights beyond 65504, too large for float16; use values='float32'")
        add(f"{name}::mask", torch.uint8, [(tensor.numel() + 7) // 8])
        add(f"{name}::values", kept, [alive])
        scale = packed[name].get("scale")
        parts.append(lambda tensor=tensor, kept=kept, scale=scale: _pack(tensor, kept, scale))  # type: ignore[misc]
    header["__metadata__"] = {_KEY: json.dumps({"version": _VERSION, "packed": packed})}
    _write(Path(path), header, parts)


def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Read a file written by `save`, or any other safetensors file, back to plain tensors.

    Args:
        path: the file.
        model: if given, its parameters and buffers are overwritten in place, one at a time, names and shapes
            as in the file. For a compact network, load into the plain one and call `compact` on it.

    Raises:
        FileError: the file is truncated, its header is too large or wrong, sizes disagree, or a mask does not
            count as many weights as there are values. Nothing is loaded then, unless the fault is in a mask.
        ValueError: names or shapes of `model` and file differ; nothing is loaded then.

    Returns:
        Every tensor by name (those of the model, if one was given).
    """
    with Path(path).open("rb") as file:
        entries, packed, begin = read_header(file)
        shapes: dict[str, tuple[int, ...]] = {}  # in the order of the file, which is that of the state dict
        for name, entry in entries.items():
            owner, _, part = name.rpartition("::")
            if owner not in packed:
                shapes[name] = tuple(entry["shape"])
            elif part == "mask":
                shapes[owner] = tuple(packed[owner]["shape"])
        targets = _targets(model, shapes) if model is not None else {}
        loaded: dict[str, Tensor] = {}
        for name in shapes:
            if name in packed:
                tensor = _unpack(file, begin, name, entries, packed[name])
            else:
                tensor = _read(file, begin, entries[name])
            if model is None:
                loaded[name] = tensor
            else:
                with torch.no_grad():
                    targets[name].copy_(tensor)
                loaded[name] = targets[name]
        return loaded


def packed_bytes(tensor: Tensor) -> int:
    """Bytes `save` needs for the data of a tensor, lossless."""
    dense, packed = tensor.numel() * tensor.element_size(), _packed_size(tensor, _alive(tensor))
    return packed if _worth_packing(tensor, _alive(tensor)) else dense


def read_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Entries by name, packed tensors by name, and where the data begin; all checked against the file's
    length.

    Raises:
        FileError: something in it cannot be true.
    """
    length = os.fstat(file.fileno()).st_size
    first = file.read(8)
    size = int.from_bytes(first, "little")
    if len(first) < 8 or size > min(_MAX_HEADER, length - 8):
        raise FileError(
            f"the file says its header has {size} bytes, but the file has {length}: not a whole safetensors file"
        )
    try:
        header = json.loads(file.read(size))
        metadata = header.pop("__metadata__", {})
        ours: dict[str, Any] = json.loads(metadata[_KEY]) if _KEY in metadata else {"version": _VERSION, "packed": {}}
        packed = ours["packed"]
        if ours["version"] != _VERSION:
            raise FileError(f"the file has format version {ours['version']}; this program reads {_VERSION}")
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
        size = _numel(name, entry["shape"]) * _DTYPES[entry["dtype"]].itemsize
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
        wanted, stored = _DTYPES[entry["dtype"]], _DTYPES[values["dtype"]]
        if mask["dtype"] != "U8" or mask["shape"] != [(count + 7) // 8]:
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
    return math.prod(shape)


def _targets(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    state = model.state_dict()
    missing, extra = sorted(state.keys() - shapes.keys()), sorted(shapes.keys() - state.keys())
    if missing or extra:
        raise ValueError(f"model and file must have the same tensors; file lacks {missing}, model lacks {extra}")
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)} in the model and {shape} in the file")
    return state


def _alive(tensor: Tensor) -> int:
    return int(tensor.count_nonzero()) if tensor.is_floating_point() else tensor.numel()


def _packed_size(tensor: Tensor, alive: int) -> int:
    return (tensor.numel() + 7) // 8 + alive * tensor.element_size()


def _worth_packing(tensor: Tensor, alive: int) -> bool:
    # Each packed tensor costs about 150 bytes of header more than a plain one.
    return _packed_size(tensor, alive) + 150 < tensor.numel() * tensor.element_size()


def _value_dtype(tensor: Tensor, values: Values) -> torch.dtype:
    wanted = {"float32": tensor.dtype, "float16": torch.float16, "int8": torch.int8}[values]
    return wanted if wanted.itemsize < tensor.element_size() else tensor.dtype


def _scale(name: str, tensor: Tensor) -> float:
    largest = float(tensor.abs().max())
    if not math.isfinite(largest):
        raise ValueError(f"{name} holds weights that are not finite; use values='float32'")
    return largest / 127


def _pack(tensor: Tensor, kept: torch.dtype, scale: float | None) -> Iterable[Tensor]:
    flat = tensor.detach().flatten().cpu()
    mask = flat != 0
    bits = nn.functional.pad(mask.to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    yield (bits << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
    values = flat.masked_select(mask)
    yield values.to(kept) if scale is None else (values / scale).round().to(kept)


def _unpack(file: BinaryIO, begin: int, name: str, entries: dict[str, Any], entry: dict[str, Any]) -> Tensor:
    count, dtype = math.prod(entry["shape"]), _DTYPES[entry["dtype"]]
    bits = _read(file, begin, entries[f"{name}::mask"])
    mask = (bits[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten().bool()
    values = _read(file, begin, entries[f"{name}::values"])
    if int(mask.sum()) != values.numel() or bool(mask[count:].any()):
        raise FileError(f"{name} has a mask of {int(mask.sum())} weights, but {values.numel()} values")
    tensor = torch.zeros(count, dtype=dtype)
    scale = entry.get("scale")
    values = values.to(dtype) if scale is None else values.to(dtype) * scale
    return tensor.masked_scatter_(mask[:count], values).view(entry["shape"])


def _read(file: BinaryIO, begin: int, entry: dict[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    file.seek(begin + first)
    buffer = bytearray(last - first)
    if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
        raise FileError("the file ended while it was read")
    dtype = _DTYPES[entry["dtype"]]
    flat = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.zeros(0, dtype=dtype)
    return flat.view(entry["shape"])


def _write(path: Path, header: dict[str, Any], parts: list[Callable[[], Iterable[Tensor]]]) -> None:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for part in parts:
                for tensor in part():
                    file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
