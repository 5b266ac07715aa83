"""What the sources serve becomes our file.

Sizes are those of copies of the originals that were looked at, and the checksums are published: where a file made from
ours meets them, the original holds what ours holds.
"""

import hashlib
import os
from pathlib import Path

import pytest

from served import SERVED, served
from synaptic_pruning.tasks.fetch import read
from synaptic_pruning.tasks.forecasting import DATASETS
from synaptic_pruning.tasks.forecasting.originals import ORIGINALS

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[1] / ".." / "shared")) / "data"
SIZES = {
    "chicago-transit": 268_584,
    "eeg-eye-state": 1_696_426,
    "gefcom2014-price": 901_320,
    "halifax-sea-level": 159_411,
    "heart-rate": 15_976,
    "internet-traffic": 43_318,
    "london-weather": 814_426,
    "machine-temperature": 732_223,
    "solar-radiation": 2_960_314,
    "us-gasoline": 26_373,
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


def _ours(name: str) -> bytes:
    entry = DATASETS[name]
    if not (DATA / entry.file).exists():
        pytest.skip(f"needs {DATA / entry.file}")
    return read(entry, DATA / entry.file)


def test_every_function_is_tried():
    assert {*SERVED, "household-hourly"} == set(ORIGINALS)
    assert all(DATASETS[name].url and DATASETS[name].derive for name in ORIGINALS)


@pytest.mark.parametrize("name", SERVED)
def test_original_becomes_our_file(name):
    ours = _ours(name)
    original = served(name, ours)
    assert len(original) == SIZES.get(name, len(original))
    if name in SUMS:
        assert hashlib.new("md5" if len(SUMS[name]) == 32 else "sha256", original).hexdigest() == SUMS[name]
    assert ORIGINALS[name](original) == ours


def test_minutes_become_the_hours_of_their_half_year():
    minutes, hours = _ours("household-minute"), _ours("household-hourly")
    made = ORIGINALS["household-hourly"](minutes)
    assert made.count(b"\n") == 1 + 4_711
    assert hours.startswith(made)


@pytest.mark.parametrize("name", ORIGINALS)
@pytest.mark.parametrize("body", [b"", b"404: Not Found", b"\x80\x03\x00", b"a,b\n1,2\n"])
def test_another_file_is_told_by_its_sum(name, body):
    """Whatever the function makes of it, `fetch` sees to the rest; only these errors does it expect."""
    try:
        made = ORIGINALS[name](body)
    except (ValueError, LookupError, EOFError):
        return
    assert hashlib.sha256(made).hexdigest() != DATASETS[name].sha256
