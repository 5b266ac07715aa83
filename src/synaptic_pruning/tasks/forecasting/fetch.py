"""The file of a data set: a local copy, the user's cache, or its public address, always checked against its sum."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .registry import Entry
from .series import DataError

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
_DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, KeyError, UnicodeDecodeError)
_CONNECT, _READ = 10.0, 30.0  # seconds without an answer, without a byte
_WAIT = 600.0  # seconds for another process that fetches the same file


class Progress(Protocol):
    """What a download tells of itself, byte by byte."""

    total: int

    def update(self, amount: int) -> None:
        """Add so many bytes."""

    def reset(self) -> None:
        """Start again."""

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


def locate(entry: Entry, data_dir: str | Path | None = None) -> Path:
    """Return where the file of ``entry`` lies, unread: in the local folder if one is named, else in the cache.

    Args:
        entry: From the registry.
        data_dir: Folder laid out like `Entry.file`; default SYNAPTIC_PRUNING_DATA, else the cache.

    Raises:
        DataError: It is not there.
    """
    folder = local(data_dir)
    paths = [(folder or cache()) / name for name in _names(entry)]
    for path in paths:
        if path.is_file():
            return path
    if folder is None and entry.url:
        raise DataError(
            f"data set {entry.name!r} has not been fetched; run synaptic-pruning datasets fetch {entry.name}."
        )
    if entry.url:
        raise DataError(
            f"{folder} has no {entry.file}, the file of data set {entry.name!r}; put it there, or name no folder "
            "(neither --data-dir nor SYNAPTIC_PRUNING_DATA) to have it fetched."
        )
    raise DataError(_by_hand(entry, folder))


def fetch(entry: Entry, data_dir: str | Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the checked file of ``entry``; one that is neither local nor cached is downloaded into the cache.

    A download has another name until its sum is right. Processes that ask for the same file wait for each
    other. A damaged file in the cache is fetched anew; a damaged local file is an error.

    Args:
        entry: From the registry.
        data_dir: As in `locate`; a named folder is never written to.
        progress: Told of every chunk.

    Raises:
        DataError: No copy and no address, no connection, no answer in time, or other bytes than expected.
    """
    if local(data_dir) is not None:
        path = locate(entry, data_dir)
        read(entry, path)
        return path
    for path in (cache() / name for name in _names(entry)):
        if path.is_file() and _is_whole(entry, path):
            return path
    if entry.url is None:
        raise DataError(_by_hand(entry, None))
    path = cache() / _names(entry)[-1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _download(entry, path, progress)
    except OSError as error:
        raise DataError(
            f"data set {entry.name!r} cannot be stored in {path.parent} ({error}); make room there."
        ) from None


def read(entry: Entry, path: Path) -> bytes:
    """Return the unpacked bytes of ``path`` after comparing them with the sum of ``entry``.

    Raises:
        DataError: The file is missing, damaged, or another one.
    """
    try:
        content = _UNPACK.get(path.suffix, bytes)(path.read_bytes())
    except _DAMAGED as error:
        raise DataError(f"{path} is truncated or damaged ({error}); replace it by {_origin(entry)}.") from None
    if not _matches(entry, content):
        raise DataError(
            f"{path} is not the file of data set {entry.name!r}: unpacked it has {len(content):,} bytes with another "
            f"checksum than the {entry.bytes:,} expected; replace it by {_origin(entry)}."
        )
    return content


def _download(entry: Entry, path: Path, progress: Progress | None) -> Path:
    import filelock
    import pooch
    import requests

    part = path.with_name(f"{path.name}.part")
    part_raw = path.with_name(f"{path.name}.download")
    try:
        with filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=_WAIT):
            if path.is_file() and _is_whole(entry, path):  # another process was quicker
                return path
            try:
                download = pooch.HTTPDownloader(
                    progressbar=progress or False, chunk_size=65536, timeout=(_CONNECT, _READ)
                )
                download(entry.url, str(part_raw), None)
                content = _content(entry, part_raw)
                if not _matches(entry, content):
                    raise DataError(
                        f"data set {entry.name!r}: {entry.url} gave other bytes than the registry's checksum names; the "
                        f"source has changed or a proxy interferes: put the file at {cache() / entry.file} by hand."
                    )
                part.write_bytes(content)
                part.replace(path)
                return path
            finally:
                part_raw.unlink(missing_ok=True)
                part.unlink(missing_ok=True)
    except filelock.Timeout:
        raise DataError(
            f"data set {entry.name!r}: another process has been fetching it for {_WAIT:g} seconds; try again when it has ended."
        ) from None
    except requests.exceptions.RequestException as error:
        raise DataError(
            f"data set {entry.name!r} cannot be fetched from {entry.url} ({_reason(error)}); try again, or put the "
            f"file at {cache() / entry.file} by hand."
        ) from None


def _content(entry: Entry, path: Path) -> bytes:
    """The expected file out of what the address gave; other bytes where it cannot be taken out."""
    content = path.read_bytes()
    try:
        if entry.member:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(entry.member)
        else:
            content = _UNPACK.get(Path(entry.url or "").suffix, bytes)(content)
    except _DAMAGED:
        return b""
    for old, new in entry.rewrite:
        content = content.replace(old.encode(), new.encode())
    return content[: entry.keep]


def _matches(entry: Entry, content: bytes) -> bool:
    return len(content) == entry.bytes and hashlib.sha256(content).hexdigest() == entry.sha256


def _is_whole(entry: Entry, path: Path) -> bool:
    try:
        read(entry, path)
    except DataError:
        return False
    return True


def _names(entry: Entry) -> tuple[str, ...]:
    """The file as it is stored, then plain and compressed forms; a fetched file is stored plain, the last."""
    plain = entry.file.removesuffix(".xz").removesuffix(".gz")
    return tuple(dict.fromkeys([entry.file, f"{plain}.gz", f"{plain}.xz", plain]))


def _by_hand(entry: Entry, folder: Path | None) -> str:
    return (
        f"no public address serves the file of data set {entry.name!r} ({entry.changes}); "
        f"put it at {(folder or cache()) / entry.file}, from {_origin(entry)}."
    )


def _origin(entry: Entry) -> str:
    return entry.url or f"{entry.source} ({entry.home})"


def _reason(error: Exception) -> str:
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"status {response.status_code}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection"
