"""Fetch the file of a data set and check it against its sum.

A local copy comes first, then the user's cache, then the file's public address.
"""

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

Conversion = Callable[[bytes], bytes]
"""A function that makes our file out of the publisher's."""

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
_DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, KeyError)
_TIMEOUTS = (10.0, 30.0)  # seconds to connect, seconds without a byte
_WAIT = 600.0  # seconds for another process that fetches the same file


class File(Protocol):
    """Description of one file; `forecasting.Entry` and `classification.ImageFile` implement it."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def file(self) -> str:
        """Path below the data folder; the compression that .gz and .xz stand for is optional."""

    @property
    def bytes(self) -> int:
        """Size of the unpacked file."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the unpacked file, in hexadecimal."""

    @property
    def url(self) -> str:
        """Public address of the file, or of one that it is made of."""

    @property
    def member(self) -> str | None:
        """File to take out of the zip archive at ``url``."""

    @property
    def rewrite(self) -> tuple[tuple[str, str], ...]:
        """Replacements in the content of ``url``: pairs (regular expression, text), applied in order."""

    @property
    def keep(self) -> int | None:
        """Number of bytes of the result to keep, from its start."""

    @property
    def convert(self) -> Conversion | None:
        """Function that makes the file out of all that; None where nothing is left to do."""

    @property
    def shipped(self) -> Path | None:
        """Path of the file where it ships with the package; None where it is to be found or fetched."""


class Progress(Protocol):
    """Receiver of a download's progress; ``total`` is set to its bytes, 0 where they are unknown."""

    total: int

    def update(self, amount: int) -> None:
        """Take note of so many more bytes."""

    def reset(self) -> None:
        """Take note that all bytes are there; `update` reports them once more."""

    def close(self) -> None:
        """Take note that the download has ended."""


def cache_folder() -> Path:
    """Return the user's folder of fetched files."""
    import pooch

    return Path(pooch.os_cache("synaptic-pruning"))


def local_folder(data_dir: str | Path | None) -> Path | None:
    """Return the folder of local files: ``data_dir``, else SYNAPTIC_PRUNING_DATA, else None."""
    chosen = data_dir or os.environ.get("SYNAPTIC_PRUNING_DATA")
    return Path(chosen) if chosen else None


def locate(entry: File, data_dir: str | Path | None = None) -> Path:
    """Return the path of the file of ``entry`` without reading it.

    Args:
        entry: Description of the file.
        data_dir: Folder laid out like `File.file`; by default SYNAPTIC_PRUNING_DATA, else the cache.

    Raises:
        DataError: The file is not there.
    """
    if entry.shipped is not None:
        return entry.shipped
    folder = local_folder(data_dir)
    for path in _candidates(entry, folder or cache_folder()):
        if path.is_file():
            return path
    if folder is None:
        raise DataError(
            f"data set {entry.name!r} is not in {cache_folder()}; run synaptic-pruning datasets fetch {entry.name}."
        )
    raise DataError(
        f"{folder} has no {entry.file}, the file of data set {entry.name!r}; put it there, or name no folder "
        "(neither --data-dir nor SYNAPTIC_PRUNING_DATA) to have it fetched."
    )


def fetch(entry: File, data_dir: str | Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the path of the checked file of ``entry``; one neither shipped, local nor cached is downloaded.

    A download gets its name only when its sum is right, and an interrupted one starts again. Processes
    that ask for the same file wait for each other. A damaged file in the cache is fetched anew; a damaged local
    file is an error.

    Args:
        entry: Description of the file.
        data_dir: Folder of local files, as in `locate`; a folder that is named is never written to.
        progress: Receiver of every chunk's size.

    Raises:
        DataError: There is no local copy, no connection, no answer in time, or the bytes differ from those expected.
    """
    if entry.shipped is not None or local_folder(data_dir) is not None:
        path = locate(entry, data_dir)
        read_checked(entry, path)
        return path
    paths = _candidates(entry, cache_folder())
    for path in paths:
        if _is_whole(entry, path):
            return path
    try:
        return _download(entry, paths[-1], progress)
    except OSError as error:
        raise DataError(
            f"data set {entry.name!r} cannot be stored in {cache_folder()} ({error.strerror}); make room there, or "
            "name a folder that holds it with --data-dir or SYNAPTIC_PRUNING_DATA."
        ) from None


def read_checked(entry: File, path: Path) -> bytes:
    """Return the unpacked bytes of ``path``, compared with the sum of ``entry``.

    Raises:
        DataError: The file is missing, damaged, or not the one that ``entry`` describes.
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
    """Return the file made of the download; no bytes where the download is damaged."""
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
        return entry.convert(content) if entry.convert else content
    except (*_DAMAGED, ValueError, LookupError):  # the publisher has changed the table
        return b""


def _matches(entry: File, content: bytes) -> bool:
    return len(content) == entry.bytes and hashlib.sha256(content).hexdigest() == entry.sha256


def _is_whole(entry: File, path: Path) -> bool:
    try:
        return bool(read_checked(entry, path))
    except DataError:
        return False


def _candidates(entry: File, folder: Path) -> list[Path]:
    """Return the paths that the file may have; the last one is plain, as fetched files are stored."""
    plain = entry.file.removesuffix(".xz").removesuffix(".gz")
    return [folder / name for name in (f"{plain}.gz", f"{plain}.xz", plain)]


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed; the messages of requests name classes and sockets."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the server answered {status}"
    if "timed out" in str(error).lower():
        return "no answer in time"
    return "the connection broke off" if "Connection broken" in str(error) else "no connection"
