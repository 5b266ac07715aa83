"""Image sets from a real HTTP server in this process, small ones in the published formats."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synaptic_pruning.tasks import download as fetching
from synaptic_pruning.tasks.classification import FILES, DataError, make_task

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def served(tmp_path):
    """A folder, its address, and the paths that were asked for."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def idx(values: np.ndarray) -> bytes:
    return (
        (0x800 + values.ndim).to_bytes(4, "big")
        + b"".join(n.to_bytes(4, "big") for n in values.shape)
        + values.tobytes()
    )


@pytest.fixture(params=["mnist", "fashion-mnist"])
def small(request, served, monkeypatch):
    """A set of 12 and 5 images of 3 × 3 in the place of the real one."""
    folder, address, _ = served
    images = RNG.integers(0, 256, (17, 3, 3), dtype=np.uint8)
    labels = np.arange(17, dtype=np.uint8) % 10
    contents = [idx(images[:12]), idx(labels[:12]), idx(images[12:]), idx(labels[12:])]
    made = []
    for file, content in zip(FILES[request.param], contents, strict=True):
        name = file.url.rsplit("/", 1)[1]
        (folder / name).write_bytes(gzip.compress(content))
        sha256 = hashlib.sha256(content).hexdigest()
        made.append(replace(file, url=f"{address}/{name}", bytes=len(content), sha256=sha256))
    monkeypatch.setitem(FILES, request.param, tuple(made))
    return request.param, images, labels


def test_fetched_once_then_from_the_cache(small, served, cache):
    name, _, labels = small
    tasks = [make_task(name, validation=0.25) for _ in range(2)]
    assert len(served[2]) == 4
    assert sorted(p.name for p in (cache / name).iterdir() if p.suffix != ".lock") == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    for task in tasks:
        assert (len(task.train), len(task.validation), task.shape) == (9, 3, (1, 3, 3))
        assert task.test.labels.tolist() == labels[12:].tolist()
    assert tasks[0].digest == tasks[1].digest == make_task(name, cache).digest


def test_other_bytes_are_refused_and_not_kept(small, served, cache):
    name = small[0]
    (served[0] / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(5, np.uint8))))
    with pytest.raises(DataError, match=rf"data set '{name}': .*t10k-labels-idx1-ubyte\.gz gave .* fail the checksum"):
        make_task(name)
    assert not list(cache.rglob("t10k-labels-idx1-ubyte"))


def test_a_missing_file_is_told(small, served):
    (served[0] / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=rf"'{small[0]}' cannot be fetched .*answered 404"):
        make_task(small[0])


def archive(batches: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def test_the_archive_of_cifar10_stays_packed(served, cache, tmp_path, monkeypatch):
    folder, address, asked = served
    records = {name: RNG.integers(0, 10, (2, 3073), dtype=np.uint8).tobytes() for name in BATCHES}
    content = archive(dict(reversed(records.items())))
    (folder / "cifar-10-binary.tar.gz").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    file = replace(FILES["cifar10"][0], url=f"{address}/cifar-10-binary.tar.gz", bytes=len(content), sha256=sha256)
    monkeypatch.setitem(FILES, "cifar10", (file,))
    task = make_task("cifar10", validation=0.2)
    assert (cache / "cifar10" / "cifar-10-binary.tgz").read_bytes() == content
    assert make_task("cifar10", validation=0.2).digest == task.digest
    assert len(asked) == 1
    plain = tmp_path / "plain" / "cifar10"
    plain.mkdir(parents=True)
    for name, batch in records.items():
        (plain / f"{name}.bin").write_bytes(batch)
    by_hand = make_task("cifar10", plain.parent, validation=0.2)
    assert by_hand.digest == task.digest
    assert torch.equal(by_hand.train.images, task.train.images)
    assert torch.equal(by_hand.test.labels, task.test.labels)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        archive({name: bytes(3073) for name in BATCHES})[:-40],
        archive({name: bytes(3073) for name in BATCHES[1:]}),
    ],
)
def test_a_local_archive_that_is_none_is_told(tmp_path, content):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is damaged or not the archive"):
        make_task("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_sums_are_those_of_the_published_files(name):
    for file in FILES[name]:
        if not (DATA / file.file).exists():
            pytest.skip(f"needs {DATA / file.file}")
        assert len(fetching.read_checked(file, DATA / file.file)) == file.bytes
