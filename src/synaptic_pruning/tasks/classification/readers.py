"""Read the two file formats of the classic image sets: IDX (MNIST and its kin) and CIFAR-10's binary version."""

import gzip
import lzma
import math
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from synaptic_pruning.tasks.errors import DataError

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
_RECORD = 1 + 3 * 32 * 32  # a label and an image


def read_idx(path: Path, dims: int) -> Tensor:
    """Read a file of unsigned bytes in the IDX format, plain, .gz or .xz.

    Args:
        path: The file.
        dims: Number of dimensions that it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 tensor of the shape that the file states.

    Raises:
        DataError: The file is missing, damaged, truncated, or of another kind.

    Source: the format's description on the MNIST page: magic number 0, 0, 8, dims; sizes; bytes, all big-endian.
    """
    data = _read(path)
    magic = 0x800 + dims
    found = int.from_bytes(data[:4], "big")
    if len(data) < 4 or found != magic:
        raise DataError(
            f"{path.name} begins with the magic number {found}, not {magic}; give an IDX file of {dims}-D bytes"
        )
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    _check_length(path.name, len(data), 4 + 4 * dims + math.prod(shape))
    return torch.frombuffer(bytearray(data[4 + 4 * dims :]), dtype=torch.uint8).view(shape)


def read_cifar10(path: Path) -> tuple[Tensor, Tensor]:
    """Read one batch of CIFAR-10's binary version, plain, .gz or .xz.

    Returns:
        Images, uint8, shape (n, 3, 32, 32), and labels, uint8, shape (n,).

    Raises:
        DataError: The file is missing, damaged, truncated, or holds labels above 9.
    """
    return _records(path.name, _read(path))


def read_cifar10_archive(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Read the published archive of CIFAR-10's binary version: five training batches and the test batch.

    Raises:
        DataError: The archive is missing, damaged, or not this one.
    """
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    try:
        with tarfile.open(path) as archive:
            return [_records(name, _member(archive, f"cifar-10-batches-bin/{name}")) for name in names]
    except (KeyError, EOFError, OSError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} is damaged or not the archive of CIFAR-10's binary version ({error})") from None


def find_file(folder: Path, name: str) -> Path:
    """Return the path of ``name`` in ``folder``, plain or compressed.

    Raises:
        DataError: There is no such file.
    """
    for path in (folder / f"{name}{suffix}" for suffix in ("", ".gz", ".xz")):
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name} (nor .gz, .xz); put it there, or name another folder with --data-dir")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is no file")
    return file.read()


def _records(name: str, data: bytes) -> tuple[Tensor, Tensor]:
    _check_length(name, len(data), max(1, -(-len(data) // _RECORD)) * _RECORD)
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, _RECORD)
    labels = records[:, 0]
    if int(labels.max()) > 9:
        raise DataError(f"{name} holds the label {int(labels.max())} but CIFAR-10 ends at 9; give its binary version")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def _read(path: Path) -> bytes:
    try:
        return _UNPACK.get(path.suffix, bytes)(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name the folder that holds it with --data-dir") from None
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path.name} is truncated or damaged ({error}); fetch it anew") from None


def _check_length(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{name} has {found:,} bytes unpacked but should have {expected:,}; fetch it anew")
