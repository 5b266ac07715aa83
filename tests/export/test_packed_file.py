import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import synaptic_pruning
from synaptic_pruning.export import FileError, load, read, save


def pruned(sparsity: float, *, hidden: int = 64) -> nn.Module:
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": nn.LSTM(8, hidden, 2), "norm": nn.BatchNorm1d(hidden), "head": nn.Linear(hidden, 3)})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand_like(parameter) >= sparsity
    return model


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
def test_files_are_lossless(tmp_path: Path, sparsity: float) -> None:
    model, other = pruned(sparsity), pruned(0.3)
    save(model, tmp_path / "net.safetensors")
    load(other, tmp_path / "net.safetensors")
    for name, value in model.state_dict().items():
        assert other.state_dict()[name].equal(value)
        assert other.state_dict()[name].dtype == value.dtype
    assert {n: v.shape for n, v in read(tmp_path / "net.safetensors").items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }


@pytest.mark.parametrize("hidden", [64, 256])
def test_ninety_percent_sparse_is_seven_times_smaller(tmp_path: Path, hidden: int) -> None:
    model = pruned(0.9, hidden=hidden)["body"]
    save(model, tmp_path / "packed.safetensors")
    save_file(model.state_dict(), tmp_path / "dense.safetensors")
    assert (tmp_path / "dense.safetensors").stat().st_size > 7 * (tmp_path / "packed.safetensors").stat().st_size


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=3),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_every_shape_and_dtype_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, density: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = nn.Module()
    value = (torch.randn(shape) * (torch.rand(shape) < density)).to(dtype)
    if dtype.is_floating_point:
        value = torch.where(
            torch.rand(shape) < 0.1,
            torch.tensor([-torch.inf, torch.inf, torch.nan]).to(dtype)[seed % 3],
            value,
        )
    model.register_buffer("x", value)
    path = tmp_path_factory.mktemp("net") / "a.safetensors"
    save(model, path)
    back = read(path)["x"]
    assert back.dtype == dtype
    assert back.shape == value.shape
    torch.testing.assert_close(back, value, rtol=0, atol=0, equal_nan=True)


def test_other_readers_open_it(tmp_path: Path) -> None:
    model = pruned(0.9)
    save(model, tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert "body.weight_hh_l0::mask" in file.keys()  # noqa: SIM118
        alive = model["body"].weight_hh_l0.detach()
        assert file.get_tensor("body.weight_hh_l0::values").equal(alive[alive != 0])
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    assert read(tmp_path / "plain.safetensors")["head.weight"].equal(model["head"].weight)


@pytest.mark.parametrize("sparsity", [0.6, 0.8, 0.9, 0.98])
def test_masks_take_little_more_than_their_entropy(tmp_path: Path, sparsity: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(1024, 512, bias=False)
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) >= sparsity
    save(layer, tmp_path / "a.safetensors")
    header, data = parts_of(tmp_path / "a.safetensors")
    first, last = header["weight::mask"]["data_offsets"]
    density = 1 - sparsity
    entropy = -(density * math.log2(density) + sparsity * math.log2(sparsity))
    assert 8 * (last - first) / layer.weight.numel() < min(1, entropy + 0.055)
    bits = np.frombuffer(zlib.decompress(data[first:last]), np.uint8)
    alive = np.unpackbits(bits, bitorder="little").astype(bool)
    assert np.array_equal(alive, layer.weight.detach().numpy().ravel() != 0)


def test_files_of_version_2_are_read(tmp_path: Path) -> None:
    weight = torch.eye(16)
    bits = np.packbits(weight.numpy().ravel() != 0, bitorder="little").tobytes()
    ours = {"version": 2, "packed": {"weight": {"shape": [16, 16], "dtype": "F32"}}}
    header = {
        "__metadata__": {"crc32": "0" * 8, "synaptic_pruning": json.dumps(ours)},
        "weight::mask": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]},
        "weight::values": {"dtype": "F32", "shape": [16], "data_offsets": [32, 96]},
    }
    write(tmp_path / "old.safetensors", header, bits + np.ones(16, np.float32).tobytes())
    assert read(tmp_path / "old.safetensors")["weight"].equal(weight)


@pytest.mark.parametrize(("values", "bits"), [("float16", 16), ("int8", 8)])
def test_stated_errors_hold(tmp_path: Path, values: Any, bits: int) -> None:
    layer = nn.Linear(200, 100)
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) < 0.2
    save(layer, tmp_path / "a.safetensors", values)
    back, weight = read(tmp_path / "a.safetensors")["weight"], layer.weight.detach()
    limit = weight.abs() * 2**-11 + 2**-25 if bits == 16 else weight.abs().max() / 254 * (1 + 1e-6)
    assert ((back - weight).abs() <= limit).all()
    assert (back - weight).abs().max() > 0
    assert (back == 0).equal(weight == 0) or bits == 8
    assert (tmp_path / "a.safetensors").stat().st_size < weight.numel() / 8 + weight.count_nonzero() * bits / 8 + 1500


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float32"):
        save(nn.Linear(2, 2), tmp_path / "a", "int4")  # type: ignore[arg-type]
    big = nn.Linear(9, 9)
    with torch.no_grad():
        big.weight[:, 1:] = 0
        big.weight[:, 0] = 1e6
    with pytest.raises(ValueError, match="65504"):
        save(big, tmp_path / "a", "float16")
    with torch.no_grad():
        big.weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match="finite"):
        save(big, tmp_path / "a", "int8")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_model_of_other_shape_is_untouched(tmp_path: Path) -> None:
    save(pruned(0.9), tmp_path / "a.safetensors")
    other = pruned(0.5, hidden=32)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="shape"):
        load(other, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        load(nn.Linear(2, 2), tmp_path / "a.safetensors")
    assert all(value.equal(before[name]) for name, value in other.state_dict().items())


# ---- hostile files
# -----------------------------------------------------------------------------------------------


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write(path: Path, header: Any, data: bytes) -> None:
    """Write a file whose checksum holds, whatever else it says."""
    if isinstance(header, dict) and "crc32" in (header.get("__metadata__") or {}):
        header["__metadata__"]["crc32"] = "0" * 8
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text + data
    path.write_bytes(raw.replace(b'"crc32":"00000000"', b'"crc32":"%08x"' % zlib.crc32(raw), 1))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    save(pruned(0.9), tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def test_every_truncation_is_noticed(good: Path) -> None:
    raw = good.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1]:
        good.write_bytes(raw[:length])
        with pytest.raises(FileError):
            read(good)
    good.write_bytes(raw + b"x")
    with pytest.raises(FileError, match="checksum"):
        read(good)
    good.write_bytes(raw)
    header, data = parts_of(good)
    write(good, header, data[:-1])
    with pytest.raises(FileError, match="more behind"):
        read(good)


@pytest.mark.parametrize("size", [10**8 + 1, 2**63, 2**64 - 1])
def test_huge_headers_are_refused_without_allocating(good: Path, size: int) -> None:
    good.write_bytes(size.to_bytes(8, "little") + b"{}")
    with pytest.raises(FileError, match="header"):
        read(good)


NAME = "body.weight_hh_l0"


@pytest.mark.parametrize(
    "change",
    [
        lambda h, p: h[f"{NAME}::mask"].update(shape=[1]),
        lambda h, p: h[f"{NAME}::values"].update(shape=[10**15]),
        lambda h, p: h[f"{NAME}::values"].update(data_offsets=[0, 10**15]),
        lambda h, p: h[f"{NAME}::values"].update(dtype="F64"),
        lambda h, p: h[f"{NAME}::values"].update(dtype="X99"),
        lambda h, p: h[f"{NAME}::values"].update(shape=[-4]),
        lambda h, p: h[f"{NAME}::values"].update(shape="many"),
        lambda h, p: h[f"{NAME}::values"].update(data_offsets=[1.5, 2.5]),
        lambda h, p: h.pop(f"{NAME}::mask"),
        lambda h, p: h.update({NAME: None}),
        lambda h, p: p[NAME].update(shape=[10**9, 10**9]),
        lambda h, p: p[NAME].update(shape=[2, 2]),
        lambda h, p: p[NAME].update(dtype="I64"),
        lambda h, p: p[NAME].update(scale="__import__('os')"),
        lambda h, p: p[NAME].update(scale=float("inf")),
        lambda h, p: p.update(other={"shape": [4], "dtype": "F32"}),
        lambda h, p: p.update({NAME: []}),
    ],
)
def test_sizes_that_disagree_are_refused(good: Path, change: Any) -> None:
    header, data = parts_of(good)
    ours = json.loads(header["__metadata__"]["synaptic_pruning"])
    change(header, ours["packed"])
    header["__metadata__"]["synaptic_pruning"] = json.dumps(ours)
    write(good, header, data)
    with pytest.raises(FileError):
        read(good)


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b"null", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000, b'{"__metadata__": 3}']
)
def test_nonsense_headers_are_refused(good: Path, header: bytes) -> None:
    write(good, header, b"")
    with pytest.raises(FileError):
        read(good)


def test_a_mask_that_counts_wrong_is_refused(good: Path) -> None:
    header, data = parts_of(good)
    begin = header[f"{NAME}::mask"]["data_offsets"][0]
    flipped = bytearray(data)
    flipped[begin] ^= 1
    write(good, header, bytes(flipped))
    with pytest.raises(FileError, match="mask"):
        read(good)


def with_stream(stream: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and data of a file of 64 × 64 zeros whose mask is this stream."""
    ours = {"version": 3, "packed": {"weight": {"shape": [64, 64], "dtype": "F32"}}}
    size = len(stream)
    header = {
        "__metadata__": {"crc32": "0" * 8, "synaptic_pruning": json.dumps(ours)},
        "weight::mask": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
        "weight::values": {"dtype": "F32", "shape": [0], "data_offsets": [size, size]},
    }
    return header, stream


@pytest.mark.parametrize(
    "stream",
    [
        b"x" * 100,
        zlib.compress(os.urandom(3) + b"\0" * 10**7)[:500],
        zlib.compress(b"\0" * 511, 0)[:500],
        zlib.compress(b"\0" * 400, 0),
        zlib.compress(b"\0" * 512) + b"\0" * 99,
        zlib.compress(b"\0" * 512),
    ],
    ids=["no stream", "a longer one", "cut off", "too few bytes", "more behind", "shorter than any that is written"],
)
def test_damaged_streams_are_refused(tmp_path: Path, stream: bytes) -> None:
    write(tmp_path / "a.safetensors", *with_stream(stream))
    with pytest.raises(FileError, match="mask"):
        read(tmp_path / "a.safetensors")


def test_a_damaged_mask_leaves_the_model_as_it_was(good: Path) -> None:
    header, data = parts_of(good)
    last = max((name for name in header if name.endswith("::mask")), key=lambda name: header[name]["data_offsets"][0])
    damaged = bytearray(data)
    damaged[header[last]["data_offsets"][0]] ^= 1
    write(good, header, bytes(damaged))
    model = pruned(0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FileError, match="mask"):
        load(model, good)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_another_version_is_refused(good: Path) -> None:
    header, data = parts_of(good)
    header["__metadata__"]["synaptic_pruning"] = json.dumps({"version": 4, "packed": {}})
    write(good, header, data)
    with pytest.raises(FileError, match="version 4"):
        read(good)


PEAK = """
import resource, sys, torch
from torch import nn
import synaptic_pruning
from synaptic_pruning.export import load, save
model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(24)))
with torch.no_grad():
    for layer in model:
        layer.weight[torch.rand_like(layer.weight) < 0.5] = 0
small = nn.Linear(64, 64)  # a first call of everything, so that lazily loaded code is not counted
with torch.no_grad():
    small.weight[:, 8:] = 0
save(small, sys.argv[1])
load(small, sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save(model, sys.argv[1])
load(model, sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_memory_peaks_at_about_a_layer_above_the_model(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PEAK, str(tmp_path / "a.safetensors")]
    environment = os.environ | {"PYTHONPATH": str(Path(synaptic_pruning.__file__).parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    megabytes = float(result.stdout)
    assert megabytes < 40, "the model has 96 MB, one layer 4 MB and its mask, unpacked byte by byte, 8 MB"
