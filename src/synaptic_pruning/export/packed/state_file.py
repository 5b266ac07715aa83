"""Read the tensors of any file of weights: safetensors, packed or plain, or a PyTorch state dict."""

import os
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from synaptic_pruning.export.packed.checksum import CHUNK
from synaptic_pruning.export.packed.header import FileError
from synaptic_pruning.export.packed.packed_file import read, why_not_stored

# As lengths of safetensors headers these would be far beyond any file.
_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\n"
_FOLDER = 0x10  # an attribute of records in zip files


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file or a PyTorch state dict by name.

    Nothing in the file is executed. Checksums are verified before anything is read.

    Raises:
        FileError: The file is neither, is damaged, or holds something else than dense tensors by name.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise FileError(f"{path} is not a file of weights but a folder or a device")
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
        if start == _LEGACY:
            raise FileError("it has the format of PyTorch before 1.6; save it again with torch.save")
        return _read_zip(path) if start == _ZIP else read(path)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def _read_zip(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    try:
        with warnings.catch_warnings():  # of kinds of tensors that are refused below
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets through whatever its unpickler and zip reader raise
        raise FileError(
            f"it holds more than a state dict of tensors ({type(error).__name__}); save model.state_dict()"
        ) from error
    if not isinstance(state, dict):
        raise FileError(f"it holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    inner = next((key for key, value in state.items() if isinstance(value, dict)), None)
    if inner is not None:
        raise FileError(f"it holds a checkpoint with a dict under {inner!r}; save its state dict alone")
    for name, tensor in state.items():
        if reason := why_not_stored(name, tensor):
            raise FileError(reason)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise FileError(f"{name} repeats its stored values (expanded); save its .clone()")
    return dict(state)


def _check_zip(path: Path) -> None:
    """Compare every record of a zip file with its checksum; torch.load itself does not.

    Raises:
        FileError: One differs, or the file is no zip file that torch.save writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise FileError("its records are compressed, which torch.save never does")
            if len({record.filename for record in records}) < len(records):
                raise FileError("it has two records of one name and is damaged")
            # Of a record marked as a folder torch.load reads nothing and returns memory as it happens to be.
            if any(record.is_dir() or record.external_attr & _FOLDER for record in records):
                raise FileError("one of its records is marked as a folder: it is damaged")
            # torch.serialization.set_crc32_options(False) leaves all of them 0.
            for record in records if any(record.CRC for record in records) else ():
                with archive.open(record) as content:
                    while content.read(CHUNK):
                        pass
    except FileError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged files
        raise FileError(f"it is damaged: {error or type(error).__name__}") from error
