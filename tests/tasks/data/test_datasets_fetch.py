"""Fetching from a real HTTP server in this process, by this one and by others, in fair weather and foul."""

import gzip
import hashlib
import multiprocessing
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.processes.study_runs import wait_until
from helpers.sources.http_server import TEXT, archive, left_in
from synaptic_pruning.tasks import download as fetching
from synaptic_pruning.tasks.download import fetch, locate
from synaptic_pruning.tasks.forecasting import DATASETS, DataError

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"
FORK = multiprocessing.get_context("fork")
PATIENT = fetching._TIMEOUTS


@pytest.fixture(autouse=True)
def impatient(cache, monkeypatch):
    monkeypatch.setattr(fetching, "_TIMEOUTS", (2.0, 0.5))


@pytest.fixture
def entry(server):
    return made(TEXT.encode(), url=server.url())


def made(content: bytes, **changes: object):
    """An entry of its own for ``content``."""
    changes = {"url": "https://example.org/made.csv", "member": None, "rewrite": (), "keep": None} | changes
    return replace(
        DATASETS["heart-rate"],
        name="made",
        file="series/made.csv.gz",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        **changes,
    )


def test_fetched_once_then_cached(server, entry, cache):
    with pytest.raises(DataError, match="datasets fetch made"):
        locate(entry)
    path = fetch(entry)
    assert path == cache / "series" / "made.csv" == locate(entry)
    assert path.read_text() == TEXT
    assert fetch(entry) == path
    assert server.requests == 1
    assert left_in(cache) == {"made.csv"}


@pytest.mark.parametrize(
    ("name", "body", "expected", "recipe"),
    [
        ("a.csv.gz", gzip.compress(b"x,y\n1,2\n", mtime=0), b"x,y\n1,2\n", {}),
        ("a.zip", archive(b"x,y\n1,2\n"), b"x,y\n1,2\n", {"member": "inner.csv"}),
        ("a.csv", b"ds,y\n1,NaN\n", b"date,y\n1,\n", {"rewrite": (("ds,", "date,"), ("NaN", ""))}),
        ("a.csv", b"x,y\r\n1,2\r\n3,4\r\n", b"x,y\n1,2\n", {"rewrite": (("\r\n", "\n"),), "keep": 8}),
    ],
)
def test_the_original_becomes_the_file(server, name, body, expected, recipe):
    server.body = body
    path = fetch(made(expected, url=server.url(name), **recipe))
    assert path.read_bytes() == expected


def refused(entry, cache, *fragments):
    """The one sentence of the error; nothing is left behind."""
    with pytest.raises(DataError) as caught:
        fetch(entry)
    for fragment in ("'made'", str(cache / "series" / "made.csv"), *fragments):
        assert fragment in str(caught.value)
    assert left_in(cache) == set()


def test_wrong_checksum(server, entry, cache):
    server.body = TEXT.replace("0,0\n", "0,1\n").encode()
    refused(entry, cache, entry.url, "checksum", "put the file")


@pytest.mark.parametrize("name", ["file.csv.gz", "file.zip"])
def test_an_archive_that_is_none(server, entry, cache, name):
    refused(replace(entry, url=server.url(name), member="a" if "zip" in name else None), cache, "checksum")


@pytest.mark.parametrize("sent", [0, 1000, 100_000])
def test_truncated(server, entry, cache, sent):
    server.body, server.length = TEXT[:sent].encode(), len(TEXT)
    refused(entry, cache, entry.url, "the connection broke off", "try again")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_status(server, entry, cache, status):
    server.status = status
    refused(entry, cache, entry.url, f"answered {status}")


@pytest.mark.parametrize("sent", [0, 100_000])
def test_stalled(server, entry, cache, sent):
    server.pause_after = sent
    started = time.monotonic()
    refused(entry, cache, entry.url, "no answer in time")
    assert time.monotonic() - started < 5


def test_silent_from_the_start(cache):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        entry = made(b"", url=f"http://127.0.0.1:{deaf.getsockname()[1]}/file.csv")
        refused(entry, cache, "no answer in time")


def test_connection_refused(cache):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused(made(b"", url=f"http://127.0.0.1:{port}/file.csv"), cache, f":{port}/", "no connection")


def test_no_room(entry, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"'made' cannot be stored in .*cache"):
        fetch(entry)


def test_damaged_copy_in_the_cache_is_fetched_anew(server, entry, cache):
    path = fetch(entry)
    path.write_text(TEXT[:-1])
    assert fetch(entry).read_text() == TEXT
    assert server.requests == 2


def test_local_copy_is_used_checked_and_never_replaced(server, entry, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    with pytest.raises(DataError, match=r"mine has no series/made\.csv\.gz"):
        fetch(entry, folder)
    (folder / "series").mkdir(parents=True)
    copy = folder / "series" / "made.csv.gz"
    for damaged, said in [
        (gzip.compress(TEXT[:-2].encode(), mtime=0), "is not the file"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-9], "truncated or damaged"),
        (b"text", "truncated or damaged"),
    ]:
        copy.write_bytes(damaged)
        with pytest.raises(DataError, match=said) as caught:
            fetch(entry, folder)
        assert str(copy) in str(caught.value)
        assert copy.read_bytes() == damaged
    copy.write_bytes(gzip.compress(TEXT.encode()))
    assert fetch(entry, folder) == copy
    monkeypatch.setenv("SYNAPTIC_PRUNING_DATA", str(folder))
    assert fetch(entry) == copy
    assert server.requests == 0


def _fetch_when_told(told, answer, entry):
    fetching._TIMEOUTS = PATIENT
    told.wait()
    answer.put(fetch(entry))


def elsewhere(entry, processes=1):
    """Start processes that all fetch at one moment; return them and the queue of their answers."""
    told, answer = FORK.Event(), FORK.Queue()
    started = [FORK.Process(target=_fetch_when_told, args=(told, answer, entry)) for _ in range(processes)]
    for process in started:
        process.start()
    told.set()
    return started, answer


def test_killed_midway_is_discarded_and_fetched_anew(server, entry, cache):
    server.pause_after = 200_000
    (process,), _ = elsewhere(entry)
    part = cache / "series" / "made.csv.download"
    wait_until(lambda: part.exists() and part.stat().st_size)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert part.stat().st_size < len(TEXT)
    assert left_in(cache) == {part.name}
    with pytest.raises(DataError, match="is not in"):
        locate(entry)
    server.pause_after = None
    assert fetch(entry).read_text() == TEXT
    assert left_in(cache) == {"made.csv"}


def test_two_processes_at_once_both_succeed(server, entry, cache):
    server.delay = 0.5
    both, answer = elsewhere(entry, 2)
    assert [answer.get(timeout=30) for _ in both] == [cache / "series" / "made.csv"] * 2
    for process in both:
        process.join()
    assert (cache / "series" / "made.csv").read_text() == TEXT
    assert server.requests == 1
    assert left_in(cache) == {"made.csv"}
