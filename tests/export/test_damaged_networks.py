"""Damaged files of weights are refused in one sentence, with little memory, or read as what was written."""

import random
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from synaptic_pruning.cli import app
from synaptic_pruning.export import FileError, read, save
from synaptic_pruning.export.packed import read_state

Damage = Callable[[bytes, random.Random], bytes]


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(120, 100), nn.BatchNorm1d(100), nn.Linear(100, 7))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= torch.rand_like(parameter) < 0.3
    return model


def write_packed(path: Path) -> None:
    save(network(), path)


def write_pt(path: Path) -> None:
    torch.save(network().state_dict(), path)


FORMATS = {"packed": write_packed, "pt": write_pt}


def flipped(raw: bytes, at: random.Random, count: int, end: int | None = None) -> bytes:
    data = bytearray(raw)
    for _ in range(count):
        data[at.randrange(end or len(data))] ^= 1 << at.randrange(8)
    return bytes(data)


def other_format(raw: bytes, at: random.Random) -> bytes:
    return at.choice(
        [
            b"",
            b"\x00",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }\n" + bytes(36),
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",  # how torch.save began before 1.6
            b"\x89HDF\r\n\x1a\n" + bytes(100),
            b"GGUF\x03\x00\x00\x00" + bytes(100),
            b"PK\x05\x06" + bytes(18),
            b"PK\x03\x04" + raw,
            b"time,value\n2020-01-01,3\n",
            at.randbytes(len(raw)),
            bytes(len(raw)),
            raw + raw,
            struct.pack("<Q", len(raw) - 8) + b"[" * (len(raw) - 8),
            struct.pack("<Q", len(raw) - 8) + b"{" + b'"a":' * (len(raw) // 4) + b"}",
        ]
    )


def huge_sizes(raw: bytes, at: random.Random) -> bytes:
    """Enlarge a number: of the zip file's directory and records, or of the shapes and offsets in a header."""
    data = bytearray(raw)
    if raw[:2] == b"PK":
        marks = [i for i in range(len(raw) - 4) if raw[i : i + 4] in (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06")]
        begin = at.choice(marks) + at.choice([8, 12, 16, 20, 24, 28, 32, 40, 42])
    else:
        digits = [i for i in range(8, 1200) if raw[i : i + 1].isdigit() and not raw[i + 1 : i + 2].isalpha()]
        begin = at.choice(digits)
        data[begin : begin + 1] = b"9" * at.randrange(2, 30)
        data[:8] = struct.pack("<Q", struct.unpack("<Q", raw[:8])[0] + len(data) - len(raw))
        return bytes(data)
    data[begin : begin + 4] = struct.pack("<I", at.choice([2**31 - 1, 2**32 - 1, 10**9]))
    return bytes(data)


DAMAGES: dict[str, Damage] = {
    "cut off": lambda raw, at: raw[: at.randrange(len(raw))],
    "cut off before the end": lambda raw, at: raw[: -at.randrange(1, 200)],
    "one bit": lambda raw, at: flipped(raw, at, 1),
    "one bit of the header": lambda raw, at: flipped(raw, at, 1, 600),
    "one bit near the end": lambda raw, at: raw[:-900] + flipped(raw[-900:], at, 1),
    "many bits": lambda raw, at: flipped(raw, at, 50),
    "a hole of zeros": lambda raw, at: (b := at.randrange(len(raw))) and raw[:b] + bytes(512) + raw[b + 512 :],
    "a piece missing": lambda raw, at: raw[: (b := at.randrange(len(raw)))] + raw[b + at.randrange(1, 99) :],
    "a piece twice": lambda raw, at: raw[: (b := at.randrange(len(raw)))] + raw[b - 64 if b > 64 else 0 :],
    "header length": lambda raw, at: struct.pack("<Q", at.choice([0, 1, 99, 10**8, 2**63, 2**64 - 1])) + raw[8:],
    "header length by a little": lambda raw, at: struct.pack("<Q", len(raw) // at.randrange(2, 50)) + raw[8:],
    "more behind": lambda raw, at: raw + at.randbytes(at.randrange(1, 300)),
    "huge sizes": huge_sizes,
    "other formats": other_format,
}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].equal(b[n]) and a[n].dtype == b[n].dtype for n in a)


def check(path: Path, damaged: bytes, want: dict[str, Tensor]) -> bool:
    """Read a damaged file; it must be refused, or be what was written, with at most four times its memory."""
    path.write_bytes(damaged)
    refusal, got = "", want
    tracemalloc.start()
    try:
        got = read_state(path)
    except FileError as error:
        refusal = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert same(got, want)
    assert peak <= 4 * len(damaged) + 250_000, "what reading itself takes of the interpreter"
    assert not refusal or (str(path) in refusal and len(refusal.splitlines()) == 1)
    return bool(refusal)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_refused_or_read_right(format: str, tmp_path: Path) -> None:
    path = tmp_path / "net"
    FORMATS[format](path)
    raw, want = path.read_bytes(), network().state_dict()
    refused = [check(path, d(raw, random.Random(n)), want) for d in DAMAGES.values() for n in range(3)]
    assert sum(refused) > 0.7 * len(refused), "few damages spare the tensors"
    assert not check(path, raw, want)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_more_damaged_files(format: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "net"
    FORMATS[format](path)
    raw, want = path.read_bytes(), network().state_dict()
    for number in range(30):
        check(path, DAMAGES[damage](raw, random.Random(number)), want)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_every_bit_of_the_last_kilobyte_and_the_header(format: str, tmp_path: Path) -> None:
    path = tmp_path / "net"
    FORMATS[format](path)
    raw, want = path.read_bytes(), network().state_dict()
    for byte in (*range(600), *range(len(raw) - 1200, len(raw))):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[byte] ^= 1 << bit
            check(path, bytes(damaged), want)


def test_a_record_marked_as_a_folder_is_not_read_as_memory(tmp_path: Path) -> None:
    write_pt(tmp_path / "net.pt")
    raw = bytearray((tmp_path / "net.pt").read_bytes())
    entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"/data/0"))
    raw[entry + 38] |= 0x10
    (tmp_path / "net.pt").write_bytes(raw)
    with pytest.raises(FileError, match="folder"):
        read_state(tmp_path / "net.pt")


COMMANDS = """
import resource, sys
from pathlib import Path
from typer.testing import CliRunner
from synaptic_pruning.cli import app

def run(file):
    results = [CliRunner().invoke(app, [command, str(file)]) for command in ("inspect", "export")]
    return [(r.exit_code, len(r.stderr.strip().splitlines()), repr(r.exception)) for r in results]

folder = Path(sys.argv[1])
run(folder / "good")  # a first call of everything, so that the interpreter and the libraries are not counted
limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in sorted(folder.glob("damaged*")):
    size = file.stat().st_size
    for result in run(file):
        assert result == (2, 1, "SystemExit(2)") or result[0] == 0, (file, result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak - limit <= 4 * size / 1024 + 2048, (file, peak, limit, size)
    limit = max(limit, peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_commands_in_a_process_of_their_own(format: str, tmp_path: Path) -> None:
    FORMATS[format](tmp_path / "good")
    raw = (tmp_path / "good").read_bytes()
    for number in range(210):
        damage = list(DAMAGES)[number % len(DAMAGES)]
        name = f"damaged {number:03} {damage}"
        (tmp_path / name).write_bytes(DAMAGES[damage](raw, random.Random(number)))
    done = subprocess.run([sys.executable, "-c", COMMANDS, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_commands_refuse_in_one_sentence(command: str, tmp_path: Path) -> None:
    file, out = tmp_path / "net.pt", tmp_path / "out.safetensors"
    out.write_text("an older file")
    for write in FORMATS.values():
        write(file)
        for damage in ("one bit of the header", "cut off", "other formats"):
            write(file)
            file.write_bytes(DAMAGES[damage](file.read_bytes(), random.Random(1)))
            result = CliRunner().invoke(app, [command, str(file), *(["--out", str(out)] * (command == "export"))])
            if damage != "one bit of the header" or result.exit_code:
                assert result.exit_code == 2
                assert len(result.stderr.strip().splitlines()) == 1
                assert not result.stdout
                assert out.read_text() == "an older file"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["net.pt", "out.safetensors"]


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    for command in ("inspect", "export"):
        assert CliRunner().invoke(app, [command, str(tmp_path)]).exit_code == 2
        assert CliRunner().invoke(app, [command, str(tmp_path / "nothing")]).exit_code == 2
    with pytest.raises(FileError, match="folder"):
        read_state(tmp_path)


def test_a_compressed_zip_file_is_not_inflated(tmp_path: Path) -> None:
    write_pt(tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for record in source.infolist():
            content = bytes(30_000_000) if record.filename.endswith("data/0") else source.read(record)
            bomb.writestr(record.filename, content, zipfile.ZIP_DEFLATED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="compressed"):
        read_state(tmp_path / "bomb.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kilobytes"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_without_checksums_are_read_as_before(tmp_path: Path) -> None:
    want = network().state_dict()
    save_file(want, tmp_path / "plain.safetensors")
    assert same(read(tmp_path / "plain.safetensors"), want)
    torch.serialization.set_crc32_options(False)
    try:
        write_pt(tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_state(tmp_path / "net.pt"), want)
