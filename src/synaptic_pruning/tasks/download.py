"""The file of a data set: a local copy, the user's cache, or its public address, always checked against its sum."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from synaptic_pruning.tasks.errors import DataError

Derive = Callable[[bytes], bytes]
_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
_DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, KeyError)
_TIMEOUTS = (10.0, 30.0)  # seconds to connect, seconds without a byte
_WAIT = 600.0  # seconds for another process that fetches the same file


class File(Protocol):
    """What must be known of a file; `forecasting.Entry` and `classification.files.ImageFile` know it."""

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def file(self) -> str:
        """Path below the data folder; .gz and .xz stand for a packing that is optional."""

    @property
    def bytes(self) -> int:
        """Size of the unpacked file."""

    @property
    def sha256(self) -> str:
        """Of the unpacked file."""

    @property
    def url(self) -> str:
        """Address of a file that gives these bytes."""

    @property
    def member(self) -> str | None:
        """File to take out of the zip archive at ``url``."""

    @property
    def rewrite(self) -> tuple[tuple[str, str], ...]:
        """What is replaced in what ``url`` gives, one (regular expression, text) after the other."""

    @property
    def keep(self) -> int | None:
        """How many bytes of the result to keep, from its start."""

    @property
    def derive(self) -> Derive | None:
        """What makes the file out of all that; None where it is the file."""


class Progress(Protocol):
    """What is told of a download; ``total`` is set to its bytes, 0 where they are unknown."""

    total: int

    def update(self, amount: int) -> None:
        """So many more bytes are there."""

    def reset(self) -> None:
        """All bytes are there; `update` tells them once more."""

    def close(self) -> None:
        """The download has ended."""


def cache() -> Path:
    """The user's folder of fetched files."""
    import pooch

    return Path(pooch.os_cache("synaptic-pruning"))


def local(data_dir: str | Path | None) -> Path | None:
    """The folder of local files: ``data_dir``, else SYNAPTIC_PRUNING_DATA, else None."""
    chosen = data_dir or os.environ.get("SYNAPTIC_PRUNING_DATA")
    return Path(chosen) if chosen else None


def locate(entry: File, data_dir: str | Path | None = None) -> Path:
    """Return where the file of ``entry`` lies, unread.

    Args:
        entry: What is known of it.
        data_dir: Folder laid out like `File.file`; default SYNAPTIC_PRUNING_DATA, else the cache.

    Raises:
        DataError: It is not there.
    """
    folder = local(data_dir)
    for path in _candidates(entry, folder or cache()):
        if path.is_file():
            return path
    if folder is None:
        raise DataError(
            f"data set {entry.name!r} is not in {cache()}; run synaptic-pruning datasets fetch {entry.name}."
        )
    raise DataError(
        f"{folder} has no {entry.file}, the file of data set {entry.name!r}; put it there, or name no folder "
        "(neither --data-dir nor SYNAPTIC_PRUNING_DATA) to have it fetched."
    )


def fetch(entry: File, data_dir: str | Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the checked file of ``entry``; one that is neither local nor cached is downloaded into the cache.

    A download bears its name only when its sum is right, and one that was interrupted starts again. Processes
    that ask for the same file wait for each other. A damaged file in the cache is fetched anew; a damaged local
    file is an error.

    Args:
        entry: From the registry.
        data_dir: As in `locate`; a folder that is named is never written to.
        progress: Told of every chunk.

    Raises:
        DataError: No local copy, no connection, no answer in time, or other bytes than expected.
    """
    if local(data_dir) is not None:
        path = locate(entry, data_dir)
        read(entry, path)
        return path
    paths = _candidates(entry, cache())
    for path in paths:
        if _is_whole(entry, path):
            return path
    try:
        return _download(entry, paths[-1], progress)
    except OSError as error:
        raise DataError(
            f"data set {entry.name!r} cannot be stored in {cache()} ({error.strerror}); make room there, or name a "
            "folder that holds it with --data-dir or SYNAPTIC_PRUNING_DATA."
        ) from None


def read(entry: File, path: Path) -> bytes:
    """Return the unpacked bytes of ``path`` after comparing them with the sum of ``entry``.

    Raises:
        DataError: The file is missing, damaged, or another one.
    """
    try:
        content = _UNPACK.get(path.suffix, bytes)(path.read_bytes())
    except _DAMAGED as error:
        raise DataError(
            f"{path}, the file of data set {entry.name!r}, is truncated or damaged ({error}); "
            f"replace it by the one from {entry.url}."
        ) from None
    if not _matches(entry, content):
        raise DataError(
            f"{path} is not the file of data set {entry.name!r}: unpacked it has {len(content):,} bytes where "
            f"{entry.bytes:,} with another checksum are expected; replace it by the one from {entry.url}."
        )
    return content


def _download(entry: File, path: Path, progress: Progress | None) -> Path:
    import filelock
    import pooch
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    packed, plain = (path.with_name(f"{path.name}.{suffix}") for suffix in ("download", "part"))
    responses: list[requests.Response] = []
    by_hand = f"put the file at {path} by hand"
    try:
        with filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=_WAIT):
            if _is_whole(entry, path):  # another process was quicker
                return path
            try:
                download = pooch.HTTPDownloader(
                    progressbar=progress or False,
                    chunk_size=1 << 16,
                    timeout=_TIMEOUTS,
                    hooks={"response": lambda response, **_: responses.append(response)},
                )
                download(entry.url, str(packed), None)
                content = _extract(entry, packed)
                if not _matches(entry, content):
                    raise DataError(
                        f"data set {entry.name!r}: {entry.url} gave {packed.stat().st_size:,} bytes that fail the "
                        f"checksum; try again, and if the source has changed {by_hand}."
                    )
                plain.write_bytes(content)
                return plain.replace(path)
            finally:
                for response in responses:  # pooch leaves the connection of a refused request open
                    response.close()
                packed.unlink(missing_ok=True)
                plain.unlink(missing_ok=True)
    except filelock.Timeout:
        raise DataError(
            f"data set {entry.name!r}: another process has been fetching it for {_WAIT:g} seconds; "
            "try again when that one has ended."
        ) from None
    except requests.exceptions.RequestException as error:
        raise DataError(
            f"data set {entry.name!r} cannot be fetched from {entry.url} ({_reason(error)}); try again, or {by_hand}."
        ) from None


def _extract(entry: File, packed: Path) -> bytes:
    """The file out of what the address gave; nothing where that is damaged."""
    content = packed.read_bytes()
    try:
        if entry.member:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(entry.member)
        elif not entry.url.endswith(".tar.gz"):  # a whole archive is kept as it is, and so is its sum
            content = _UNPACK.get(Path(entry.url).suffix, bytes)(content)
    except _DAMAGED:
        return b""
    for old, new in entry.rewrite:
        content = re.sub(old.encode(), new.encode(), content, flags=re.MULTILINE)
    content = content[: entry.keep]
    try:
        return entry.derive(content) if entry.derive else content
    except (*_DAMAGED, ValueError, LookupError):  # another table than it was
        return b""


def _matches(entry: File, content: bytes) -> bool:
    return len(content) == entry.bytes and hashlib.sha256(content).hexdigest() == entry.sha256


def _is_whole(entry: File, path: Path) -> bool:
    try:
        return bool(read(entry, path))
    except DataError:
        return False


def _candidates(entry: File, folder: Path) -> list[Path]:
    """The forms that the file may have; a fetched one is stored plain, which is the last."""
    plain = entry.file.removesuffix(".xz").removesuffix(".gz")
    return [folder / name for name in (f"{plain}.gz", f"{plain}.xz", plain)]


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words; requests says it in its own names of classes and sockets."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the server answered {status}"
    if "timed out" in str(error).lower():
        return "no answer in time"
    return "the connection broke off" if "Connection broken" in str(error) else "no connection"
