"""Checksum of a packed file: the CRC-32 of all its bytes, at a fixed place so that it is checked before anything else.

The header's text begins with ``MARK`` and eight hexadecimal digits, an ordinary metadata entry for other readers.
While the sum is taken, the digits count as zeros.
"""

import zlib
from typing import BinaryIO

NAME = "crc32"
BLANK = "0" * 8
MARK = f'{{"__metadata__":{{"{NAME}":"'.encode()
CHUNK = 1 << 16  # bytes read at once


def has_checksum(file: BinaryIO) -> bool:
    """Return whether an open file carries a checksum."""
    file.seek(8)
    return file.read(len(MARK)) == MARK


def seal(file: BinaryIO) -> None:
    """Write the checksum into a finished file that is open for reading and writing, its digits still blank."""
    digits = f"{_sum(file):08x}".encode()
    file.seek(8 + len(MARK))
    file.write(digits)


def checksum_holds(file: BinaryIO) -> bool:
    """Return whether an open file with a checksum is as it was when it was sealed."""
    file.seek(8 + len(MARK))
    return file.read(len(BLANK)) == f"{_sum(file):08x}".encode()


def _sum(file: BinaryIO) -> int:
    file.seek(0)
    start = file.read(8 + len(MARK))
    file.read(len(BLANK))
    total = zlib.crc32(BLANK.encode(), zlib.crc32(start))
    while chunk := file.read(CHUNK):
        total = zlib.crc32(chunk, total)
    return total
