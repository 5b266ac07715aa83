"""Save and load packed files: safetensors with a bit mask and the non-zero values of each pruned weight.

A tensor ``NAME`` with enough zeros is stored as two tensors. ``NAME::mask`` holds one bit a weight, the first
weight in the lowest bit of the first byte; where that is shorter, the zlib stream of these bytes. ``NAME::values``
holds the weights whose bit is set, in order. Every other tensor is stored as it is. The metadata key
``synaptic_pruning`` holds JSON with the format's version and the shape and dtype of each packed tensor. The key
``crc32`` holds a checksum of the file, verified before anything is read. Any safetensors reader opens the file.

The mask is read off the weights: a bit is set if the weight is not 0. No pruner's mask is stored.

Files are read and written one tensor at a time, so memory peaks at about one layer above the model.
Nothing in a file is executed, and nothing is allocated before its size has been checked against the file's
length.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from synaptic_pruning.core import pack, unpack
from synaptic_pruning.export.packed.checksum import BLANK, NAME, seal
from synaptic_pruning.export.packed.header import DTYPES, KEY, VERSION, FileError, read_header

Values = Literal["float32", "float16", "int8"]
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save(model: nn.Module, path: str | os.PathLike[str], values: Values = "float32") -> None:
    """Write a model's ``state_dict`` to a file, zeros at one bit each or less.

    Args:
        model: Any module. Tied tensors are written once under each name.
        path: The file, replaced only when complete.
        values: Precision of the non-zero floating-point values of packed tensors. "float32" is lossless: values
            keep their own dtype, bit for bit (of a packed tensor, minus zero comes back as zero). "float16"
            rounds to half precision: relative error at most 2⁻¹¹ (4.9e-4) for sizes from 6.1e-5 to 65504.
            "int8" keeps 255 levels a tensor: absolute error at most max|w| / 254.

    Raises:
        ValueError: ``values`` is something else, a weight does not fit float16, int8 is asked for weights
            that are not finite, or an entry of the state dict is no dense tensor of a known type.

    Example:
        >>> import tempfile
        >>> layer = nn.Linear(64, 64)
        >>> with torch.no_grad():
        ...     layer.weight[:, 4:] = 0
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(layer, f"{folder}/net.safetensors")
        ...     size = Path(f"{folder}/net.safetensors").stat().st_size
        ...     state = read(f"{folder}/net.safetensors")
        >>> size < 64 * 64 * 4 // 4, state["weight"].equal(layer.weight)
        (True, True)
    """
    save_state(model.state_dict(), path, values)


def save_state(
    state: Mapping[str, Any], path: str | os.PathLike[str], values: Values = "float32", dense: bool = False
) -> None:
    """Write tensors by name to a file as `save` does, or with all their zeros if ``dense``."""
    if values not in ("float32", "float16", "int8"):
        raise ValueError(f'values must be "float32", "float16" or "int8", not {values!r}')
    metadata = {NAME: BLANK}
    header: dict[str, Any] = {"__metadata__": metadata}  # the checksum's place is at the beginning
    packed: dict[str, Any] = {}
    parts: list[Callable[[], Iterable[Tensor]]] = []
    position = 0

    def add(name: str, dtype: torch.dtype, shape: list[int]) -> None:
        nonlocal position
        if name in header:
            raise ValueError(f"{name} is a name that the packed file needs itself; rename the tensor")
        size = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [position, position + size]}
        position += size

    for name, tensor in state.items():
        if reason := why_not_stored(name, tensor):
            raise ValueError(reason)
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name} is {tensor.dtype}, but a packed file holds {', '.join(map(str, _NAMES))} only")
        alive = _count_alive(tensor)
        if dense or not _worth_packing(tensor, alive):
            add(name, tensor.dtype, list(tensor.shape))
            parts.append(lambda tensor=tensor: [tensor.detach().cpu()])  # type: ignore[misc]
            continue
        kept = _value_dtype(tensor, values)
        packed[name] = {"shape": list(tensor.shape), "dtype": _NAMES[tensor.dtype]}
        if kept == torch.int8 != tensor.dtype:
            packed[name]["scale"] = _scale(name, tensor)
        if kept == torch.float16 != tensor.dtype and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
            raise ValueError(f"{name} holds weights beyond 65504, too large for float16; use values='float32'")
        add(f"{name}::mask", torch.uint8, [len(_mask_bytes(tensor))])  # made twice, not kept: memory
        add(f"{name}::values", kept, [alive])
        scale = packed[name].get("scale")
        parts.append(lambda tensor=tensor, kept=kept, scale=scale: _pack(tensor, kept, scale))  # type: ignore[misc]
    metadata[KEY] = json.dumps({"version": VERSION, "packed": packed}, separators=(",", ":"))
    _write(Path(path), header, parts)


def load(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read a file that `save` wrote, or any other safetensors file, into a model of the same names and shapes.

    Parameters and buffers are overwritten in place, one at a time. For a compact network, load into the plain
    model and call `compact` on it.

    Args:
        model: The model to fill.
        path: The file.

    Raises:
        FileError: The checksum differs, the file is truncated, its header is too large or wrong, sizes disagree,
            or a mask does not fit its values; nothing was loaded.
        ValueError: Names or shapes of ``model`` and file differ, tied tensors of ``model`` differ in the file, or
            ``model`` lies on the meta device; nothing was loaded.

    Example:
        >>> import tempfile
        >>> first, second = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(first, f"{folder}/net.safetensors")
        ...     load(second, f"{folder}/net.safetensors")
        >>> second.weight.equal(first.weight)
        True
    """
    with Path(path).open("rb") as file:
        entries, packed, begin = read_header(file)
        targets = _targets(model, _shapes(entries, packed))
        for name in packed:  # all masks first, so that a damaged one leaves the model as it was
            _mask(file, begin, name, entries, packed[name])
        for name, first in _ties(targets).items():
            if not _same(*(_tensor(file, begin, n, entries, packed) for n in (name, first))):
                raise ValueError(f"{name} and {first} are tied in the model, but differ in the file; untie them")
        with torch.no_grad():
            for name, target in targets.items():
                target.copy_(_tensor(file, begin, name, entries, packed))


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return every tensor of a file that `save` wrote, or of any other safetensors file, by name.

    Args:
        path: The file.

    Returns:
        Dense tensors in the order of the file.

    Raises:
        FileError: As for `load`.
    """
    with Path(path).open("rb") as file:
        entries, packed, begin = read_header(file)
        return {name: _tensor(file, begin, name, entries, packed) for name in _shapes(entries, packed)}


def _shapes(entries: dict[str, Any], packed: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in the order of the file, which is that of the state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in entries.items():
        owner, _, part = name.rpartition("::")
        if owner not in packed:
            shapes[name] = tuple(entry["shape"])
        elif part == "mask":
            shapes[owner] = tuple(packed[owner]["shape"])
        elif part != "values":
            shapes[name] = tuple(entry["shape"])
    return shapes


def packed_bytes(tensor: Tensor) -> int:
    """Return the number of bytes that `save` writes for the data of a tensor, lossless."""
    alive = _count_alive(tensor)
    if not _worth_packing(tensor, alive):
        return tensor.numel() * tensor.element_size()
    return len(_mask_bytes(tensor)) + alive * tensor.element_size()


def _targets(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    state = model.state_dict()
    missing, extra = sorted(state.keys() - shapes.keys()), sorted(shapes.keys() - state.keys())
    if missing or extra:
        raise ValueError(f"model and file must have the same tensors; file lacks {missing}, model lacks {extra}")
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)} in the model and {shape} in the file")
        if state[name].is_meta:
            raise ValueError(f"{name} lies on the meta device; give model.to_empty(device='cpu')")
    return state


def _ties(state: dict[str, Tensor]) -> dict[str, str]:
    """Return, for each tensor that lies where an earlier one lies, the name of the earlier one."""
    first: dict[Any, str] = {}
    places = {name: (t.data_ptr(), t.shape, t.stride(), t.dtype) for name, t in state.items() if t.numel()}
    return {name: first[place] for name, place in places.items() if first.setdefault(place, name) != name}


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same bits, a NaN included."""
    return a.dtype == b.dtype and a.view(-1).view(torch.uint8).equal(b.view(-1).view(torch.uint8))


def why_not_stored(name: object, tensor: object) -> str:
    """Return why an entry of a state dict cannot be stored, as a sentence; empty if it can, its type permitting."""
    if not isinstance(name, str) or name == "__metadata__" or any("\ud800" <= sign <= "\udfff" for sign in name):
        return f"{name!r} is no name for a tensor in a file; give text without surrogates, and not __metadata__"
    if not isinstance(tensor, Tensor):
        return f"{name} is no tensor but a {type(tensor).__name__}; leave it out of the state dict"
    if is_lazy(tensor):
        return f"{name} has no shape yet; run the model once before"
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"{name} is a {type(tensor).__name__}, spread over devices or wrapped; store the plain tensor"
    if tensor.is_meta:
        return f"{name} lies on the meta device and has no values; load them first"
    if tensor.is_quantized:
        return f"{name} is quantized ({tensor.dtype}); store name.dequantize()"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"{name} has the layout {tensor.layout}; store it dense, as name.to_dense()"
    return ""


def _count_alive(tensor: Tensor) -> int:
    return int(tensor.count_nonzero()) if tensor.is_floating_point() else tensor.numel()


def _worth_packing(tensor: Tensor, alive: int) -> bool:
    # Each packed tensor costs about 150 bytes of header more than a plain one.
    size = tensor.element_size()
    return (tensor.numel() + 7) // 8 + alive * size + 150 < tensor.numel() * size


def _value_dtype(tensor: Tensor, values: Values) -> torch.dtype:
    wanted = {"float32": tensor.dtype, "float16": torch.float16, "int8": torch.int8}[values]
    return wanted if wanted.itemsize < tensor.element_size() else tensor.dtype


def _scale(name: str, tensor: Tensor) -> float:
    largest = float(tensor.abs().max())
    if not math.isfinite(largest):
        raise ValueError(f"{name} holds weights that are not finite; use values='float32'")
    return largest / 127


def _pack(tensor: Tensor, kept: torch.dtype, scale: float | None) -> Iterable[Tensor]:
    yield torch.frombuffer(bytearray(_mask_bytes(tensor)), dtype=torch.uint8)
    flat = tensor.detach().flatten().cpu()
    values = flat.masked_select(flat != 0)
    yield values.to(kept) if scale is None else (values / scale).round().to(kept)


def _mask_bytes(tensor: Tensor) -> bytes:
    """Return the mask as it is stored: one bit a weight, or the zlib stream of these where that is shorter.

    The stream has Huffman codes alone, within 2 % of the entropy of zeros in no order. They take at least one bit a
    byte, so what a file makes a reader allocate has a limit.
    """
    bits = pack(tensor.detach().flatten().cpu() != 0).numpy().tobytes()
    stream = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    return min(bits, stream.compress(bits) + stream.flush(), key=len)


def _inflated(stored: Tensor, size: int, name: str) -> Tensor:
    """Return a stored mask as one bit a weight, ``size`` bytes; no more than these are ever made."""
    if stored.numel() == size:
        return stored
    stream = zlib.decompressobj()
    try:
        bits = stream.decompress(stored.numpy().tobytes(), size + 1)
    except zlib.error as error:
        raise FileError(f"{name} has a mask that is damaged ({error}); copy the file again") from error
    if len(bits) != size or not stream.eof or stream.unused_data:
        raise FileError(f"{name} has a mask that is damaged: it should have {size} bytes; copy the file again")
    return torch.frombuffer(bytearray(bits), dtype=torch.uint8)


def _mask(file: BinaryIO, begin: int, name: str, entries: dict[str, Any], entry: dict[str, Any]) -> Tensor:
    count = math.prod(entry["shape"])
    bits = _inflated(_read(file, begin, entries[f"{name}::mask"]), (count + 7) // 8, name)
    mask = unpack(bits, (bits.numel() * 8,))
    values = entries[f"{name}::values"]["shape"][0]
    if int(mask.sum()) != values or bool(mask[count:].any()):
        raise FileError(f"{name} has a mask of {int(mask.sum())} weights, but {values} values")
    return mask[:count]


def _tensor(file: BinaryIO, begin: int, name: str, entries: dict[str, Any], packed: dict[str, Any]) -> Tensor:
    if name not in packed:
        return _read(file, begin, entries[name])
    entry = packed[name]
    dtype, scale = DTYPES[entry["dtype"]], entry.get("scale")
    values = _read(file, begin, entries[f"{name}::values"]).to(dtype)
    tensor = torch.zeros(math.prod(entry["shape"]), dtype=dtype, device="cpu")
    tensor.masked_scatter_(_mask(file, begin, name, entries, entry), values if scale is None else values * scale)
    return tensor.view(entry["shape"])


def _read(file: BinaryIO, begin: int, entry: dict[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    file.seek(begin + first)
    buffer = bytearray(last - first)
    if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
        raise FileError("the file ended while it was read")
    dtype = DTYPES[entry["dtype"]]
    flat = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.zeros(0, dtype=dtype, device="cpu")
    if dtype == torch.bool and bool((flat.view(torch.uint8) > 1).any()):
        raise FileError("the file is damaged: a truth value is neither 0 nor 1")
    return flat.view(entry["shape"])


def _write(path: Path, header: dict[str, Any], parts: list[Callable[[], Iterable[Tensor]]]) -> None:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w+b") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for part in parts:
                for tensor in part():
                    file.write(tensor.resolve_neg().contiguous().flatten().view(torch.uint8).numpy().data)
            seal(file)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
