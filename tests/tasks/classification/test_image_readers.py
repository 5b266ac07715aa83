import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from synaptic_pruning.tasks.classification import DataError
from synaptic_pruning.tasks.classification.readers import find_file, read_cifar10, read_idx

SHARED = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"


def _idx(values: np.ndarray) -> bytes:
    head = (0x800 + values.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return head + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_idx_round_trip_in_every_packing(tmp_path, suffix, pack):
    values = np.random.default_rng(0).integers(0, 256, (5, 3, 4))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(pack(_idx(values)))
    assert find_file(tmp_path, "images") == path
    read = read_idx(path, 3)
    assert read.dtype is torch.uint8
    assert read.tolist() == values.tolist()


def test_cifar_by_hand(tmp_path):
    records = np.zeros((2, 3073), np.uint8)
    records[1, 0] = 7
    records[1, 1 + 1024 + 32 * 2 + 5] = 99  # green, row 2, column 5
    (tmp_path / "batch.bin").write_bytes(records.tobytes())
    images, labels = read_cifar10(tmp_path / "batch.bin")
    assert labels.tolist() == [0, 7]
    assert images.nonzero().tolist() == [[1, 1, 2, 5]]
    assert images.max() == 99


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", _idx(np.zeros(4)), "magic number 2049, not 2051; give an IDX file of 3-D bytes"),
        ("a", b"", "magic number 0, not 2051"),
        ("a", _idx(np.zeros((2, 3, 3)))[:-1], "33 bytes unpacked but should have 34; fetch it anew"),
        ("a", _idx(np.zeros((2, 3, 3))) + b"x", "35 bytes unpacked but should have 34"),
        ("a", _idx(np.zeros((2, 3, 3)))[:9], "9 bytes unpacked but should have"),
        ("a.gz", gzip.compress(_idx(np.zeros((2, 3, 3))), mtime=0)[:-9], r"a\.gz is truncated or damaged"),
        ("a.xz", lzma.compress(_idx(np.zeros((2, 3, 3))))[:-9], r"a\.xz is truncated or damaged"),
        ("a.gz", b"no gzip at all", r"a\.gz is truncated or damaged"),
    ],
)
def test_faulty_idx_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / name, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3072), "3,072 bytes unpacked but should have 3,073"),
        (bytes(3073 + 5), "3,078 bytes unpacked but should have 6,146"),
        (b"", "0 bytes unpacked"),
        (b"\x0a" + bytes(3072), "label 10 but CIFAR-10 ends at 9"),
    ],
)
def test_faulty_cifar_files_are_named(tmp_path, content, message):
    (tmp_path / "batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_cifar10(tmp_path / "batch.bin")


def test_missing_files_name_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"has no train \(nor \.gz, \.xz\); .*--data-dir"):
        find_file(tmp_path, "train")
    with pytest.raises(DataError, match="does not exist"):
        read_idx(tmp_path / "gone", 3)


def test_the_published_files():
    path = SHARED / "mnist" / "t10k-labels-idx1-ubyte.gz"
    if not path.is_file():
        pytest.skip(f"../shared/data/{path.parent.name}/{path.name} is not there")
    assert read_idx(path, 1)[:5].tolist() == [7, 2, 1, 0, 4]  # the well-known beginning
    images, labels = read_cifar10(SHARED / "cifar10" / "test_batch.bin.xz")
    assert images.shape == (10000, 3, 32, 32)
    assert labels.bincount().tolist() == [1000] * 10
