"""What the sources serve becomes our file.

Sizes are those of copies of the originals that were looked at, and the checksums are published: where a file made from
ours meets them, the original holds what ours holds.
"""

import gzip
import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from helpers.sources.http_server import archive, left_in
from helpers.sources.published_files import PUBLISHED, REWRITTEN, published
from synaptic_pruning.tasks.download import fetch, read_checked
from synaptic_pruning.tasks.forecasting import DATASETS, DataError, load
from synaptic_pruning.tasks.forecasting.data.conversions import CONVERSIONS

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"
SIZES = {
    "chicago-transit": 268_584,
    "co2-mauna-loa": 33_974,
    "eeg-eye-state": 1_696_426,
    "eu-stock-indices": 60_865,
    "gefcom2014-price": 901_320,
    "halifax-sea-level": 159_411,
    "heart-rate": 15_976,
    "internet-traffic": 43_318,
    "london-weather": 814_426,
    "machine-temperature": 732_223,
    "solar-radiation": 2_960_314,
    "treering": 145_430,
    "us-gasoline": 26_373,
    "wiki-peyton-manning": 86_845,
    "wind-turbine": 2_443_586 + 1,  # up to the last row that ours has; a character of its header takes two bytes
}
"""Bytes of the original, or of the part of it that we have."""
SUMS = {
    "bike-sharing-dc": "e03de4ee4ef4dc376ac6e04bf829673c6269e8eba5c60fa121640fa2f829504f",
    "heart-rate": "3c4a108e1116867cf056dc5be2c95386",
    "seoul-bike": "373339b71a8935d69e9af0abf26a70744632119862eeb3919efb389a7b749c60",
    "steel-energy": "9b1cee6f9cb9cd9df2b95814ca90a9a2ff15b7f5f1fba0fae3c643e82072eacc",
    "us-gasoline": "25d440337a06cbf83423e81d0337a1ce",
}
"""SHA-256 of the original as public loaders of these files pin them, or the MD5 in darts, which serves two of them."""

MADE_SLOWLY = ["melbourne-pedestrians", "appliances-energy", "steel-energy", "solar-radiation", "beijing-pm25"]
"""Of these the whole original is made by `make test-slow` alone."""


def _ours(name: str) -> bytes:
    entry = DATASETS[name]
    if not (DATA / entry.file).exists():
        pytest.skip(f"needs {DATA / entry.file}")
    return read_checked(entry, DATA / entry.file)


def test_every_function_is_tried():
    assert {*PUBLISHED, "household-hourly"} == set(CONVERSIONS)
    assert all(DATASETS[name].url and DATASETS[name].convert for name in CONVERSIONS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in MADE_SLOWLY else ()) for name in PUBLISHED]
)
def test_original_becomes_our_file(name):
    ours = _ours(name)
    original = published(name, ours)
    assert len(original) == SIZES.get(name, len(original))
    if name in SUMS:
        assert hashlib.new("md5" if len(SUMS[name]) == 32 else "sha256", original).hexdigest() == SUMS[name]
    assert CONVERSIONS[name](original) == ours


@pytest.mark.parametrize("name", MADE_SLOWLY)
def test_the_first_rows_of_the_original_become_those_of_our_file(name):
    first = b"".join(_ours(name).splitlines(keepends=True)[:2001])
    assert CONVERSIONS[name](published(name, first)) == first


def test_the_sensors_in_melbourne_counted_as_often_as_their_package_says():
    """Its documentation gives these numbers of rows: https://tsibble.tidyverts.org."""
    counts = pd.read_csv(io.BytesIO(_ours("melbourne-pedestrians")), index_col=0).count()
    assert counts.to_dict() == {
        "Birrarung Marr": 14_566,
        "Bourke Street Mall (North)": 16_414,
        "QV Market-Elizabeth St (West)": 17_518,
        "Southern Cross Station": 17_539,
    }


def test_minutes_become_the_hours_of_their_half_year():
    minutes, hours = _ours("household-minute"), _ours("household-hourly")
    made = CONVERSIONS["household-hourly"](minutes)
    assert made.count(b"\n") == 1 + 4_711
    assert hours.startswith(made)


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize("body", [b"", b"404: Not Found", b"\x80\x03\x00", b"a,b\n1,2\n"])
def test_another_file_is_told_by_its_sum(name, body):
    """Whatever the function makes of it, `fetch` sees to the rest; only these errors does it expect."""
    try:
        made = CONVERSIONS[name](body)
    except (ValueError, LookupError, EOFError):
        return
    assert hashlib.sha256(made).hexdigest() != DATASETS[name].sha256


@pytest.mark.parametrize("name", ["etth1", "air-quality", "twitter-volume", "exchange-rate"])
def test_real_files_as_their_sources_serve_them(server, cache, monkeypatch, name):
    entry = DATASETS[name]
    body = _ours(name)
    for old, new in entry.rewrite:
        body = body.replace(new.encode(), old.encode())
    if entry.member:
        body = archive(body, entry.member)
    elif entry.url.endswith(".gz"):
        body = gzip.compress(body, 1)  # not as the source packs it: only the content counts
    server.body = body
    monkeypatch.setitem(DATASETS, name, replace(entry, url=server.url(entry.url.rsplit("/", 1)[1])))
    assert load(name).digest == load(name, data_dir=DATA).digest
    assert server.requests == 1


@pytest.mark.parametrize("name", REWRITTEN)
def test_real_files_of_sources_that_write_them_otherwise(server, cache, monkeypatch, name):
    entry = DATASETS[name]
    server.body = REWRITTEN[name](_ours(name))
    assert len(server.body) == SIZES.get(name, len(server.body))
    monkeypatch.setitem(DATASETS, name, replace(entry, url=server.url("a.csv")))
    assert load(name).digest == load(name, data_dir=DATA).digest
    assert server.requests == 1


@pytest.mark.parametrize("name", ["seoul-bike", "us-gasoline"])
def test_real_files_derived_from_their_originals(server, cache, monkeypatch, name):
    entry = DATASETS[name]
    ours = _ours(name)
    for changed in (True, False):
        original = published(name, ours[: ours.rindex(b"\n", 0, -1) + 1] if changed else ours)
        server.body = archive(original, entry.member) if entry.member else original
        monkeypatch.setitem(DATASETS, name, replace(entry, url=server.url("a.csv")))
        if changed:
            with pytest.raises(DataError, match=f"{name}.*fail the checksum"):
                fetch(DATASETS[name])
            assert left_in(cache) == set()
    assert load(name).digest == load(name, data_dir=DATA).digest
    assert server.requests == 2


def test_a_page_in_place_of_an_original(server, cache):
    server.body = b"<html>moved</html>"
    with pytest.raises(DataError, match=r"'us-flu'.*18 bytes that fail the checksum"):
        fetch(replace(DATASETS["us-flu"], url=server.url("a.csv")))
    assert left_in(cache) == set()


def test_the_package_that_carries_a_file_agrees(server, cache, monkeypatch):
    """statsmodels serves the file from its repository and carries it, too."""
    import statsmodels

    entry = DATASETS["co2-mauna-loa"]
    server.body = (Path(statsmodels.__file__).parent / "datasets" / "co2" / "co2.csv").read_bytes()
    path = fetch(replace(entry, url=server.url("a.csv")))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
