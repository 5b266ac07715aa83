"""The registry against the files themselves, their published tables, and a reader of its own kind (csv, by hand)."""

import csv
import gzip
import hashlib
import io
import lzma
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from helpers.combinations import quick_or_slow
from synaptic_pruning.tasks.forecasting import DATASETS, SHIPPED, DataError, embedded, load
from synaptic_pruning.tasks.forecasting.data import builtin

DATA = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared")) / "data"
FETCHED = [name for name in DATASETS if name not in SHIPPED]
CUT = {  # rows that are left out on purpose: README's number, then what is loaded
    "sp500": (24_114, 8_564),
    "sp500-panel": (619_040, 1_259),
    "weather": (52_696, 52_695),
    "chicago-transit": (7_639, 6_939),
}


def needs(name: str) -> Path:
    path = DATA / DATASETS[name].file
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


@cache
def loaded(name: str):
    needs(name)
    return load(name, data_dir=DATA, inputs="all")


def unpacked(path: Path) -> bytes:
    return {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)(path.read_bytes())


@cache
def published() -> dict[str, dict[str, str]]:
    """Both READMEs' tables, a dict a file."""
    found: dict[str, dict[str, str]] = {}
    for readme, folder in ((DATA / "README.md", ""), (DATA / "series" / "README.md", "series/")):
        if not readme.exists():
            pytest.skip(f"needs {readme}")
        header: list[str] = []
        for line in readme.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            if cells and cells[0] == "file":
                header = cells
            elif cells and not cells[0].startswith("---"):
                found.setdefault(folder + cells[0], {}).update(zip(header, cells, strict=True))
    return found


def test_every_series_has_an_entry_and_every_entry_its_own_file():
    files = [DATASETS[name].file for name in FETCHED]
    assert len(files) == len(set(files)) == 12 + 38
    if not (DATA / "series").exists():
        pytest.skip(f"needs {DATA}")
    assert {f"series/{path.name}" for path in (DATA / "series").glob("*.gz")} == {f for f in files if "series/" in f}


@pytest.mark.parametrize("name", FETCHED)
def test_file_and_table_agree_with_the_entry(name):
    entry, path = DATASETS[name], needs(name)
    row = published()[entry.file]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    content = unpacked(path)
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.bytes)
    plain = published().get(entry.file.removesuffix(".xz"), {})
    assert plain.get("sha256 unpacked", entry.sha256) == entry.sha256
    if "season" in row:
        first = re.match(r"\d+", row["season"])
        assert entry.season == (int(first[0]) if first else 1)
        assert entry.target == row["target"]
    size = row.get("rows x columns") or row["rows, columns, range"]
    said = int(re.match(r"[\d,]+", size)[0].replace(",", ""))
    assert CUT.get(name, (said, said)) == (said, entry.rows)


# Two million rows take longer than all the others.
@quick_or_slow(("name",), {(name,) for name in FETCHED} - {("household-minute",)}, FETCHED)
def test_loads(name):
    entry, series = DATASETS[name], loaded(name)
    assert (series.name, series.target, series.season) == (name, entry.target, entry.season)
    assert len(series.times) == entry.rows
    assert not set(series.columns) & {*entry.without, "date", "index", "Date", "Time", "year"}
    training = series.values[: int(0.7 * entry.rows)]
    assert np.nanstd(training[:, 0]) > 0
    assert 0.8 < np.isfinite(series.values[:, 0]).mean() <= 1
    assert (np.isfinite(series.values).mean(axis=0) > 0.4).all()


SIMPLE = [name for name in FETCHED if name.startswith(("ett", "bitcoin")) or "series/" in DATASETS[name].file]


@pytest.mark.parametrize("name", sorted(set(SIMPLE) - {*CUT, "eeg-eye-state"}))
def test_target_is_that_of_the_file_cell_by_cell(name):
    series = loaded(name)
    rows = csv.DictReader(io.StringIO(unpacked(needs(name)).decode()))
    cells = [row[series.target] for row in rows]
    np.testing.assert_array_equal(series.values[:, 0], [float(cell) if cell else np.nan for cell in cells])


@pytest.mark.parametrize("name", ["etth1", "vix", "nyc-taxi", "us-gasoline", "sunspots-daily", "treering"])
def test_times_are_those_of_the_range_published(name):
    first, last = published()[DATASETS[name].file].get("range", "2016-07-01 to 2018-06-26 19:00").split(" to ")
    times = loaded(name).times
    assert (str(times[0]).replace("T", " ")[: len(first)], str(times[-1]).replace("T", " ")[: len(last)]) == (
        first,
        last,
    )


def test_fixes_that_the_sources_need():
    air = loaded("air-quality")
    raw = unpacked(needs("air-quality")).decode().splitlines()[1:9358]
    assert np.isnan(air.values[:, 0]).sum() == sum(line.split(";")[2].startswith("-200") for line in raw) == 1683
    assert air.values[0, 0] == 2.6  # a decimal comma
    assert (str(air.times[0]), str(air.times[-1])) == ("2004-03-10T18:00:00.000000000", "2005-04-04T14:00:00.000000000")

    household = loaded("household-hourly")
    assert np.isnan(household.values).all(axis=1).sum() == np.isnan(household.values[:, 0]).sum() == 421

    weather = loaded("weather")
    assert np.isnan(weather.values).sum() == 1 + 30 + 50
    assert np.isnan(weather.values[:, 0]).sum() == 50

    eeg = loaded("eeg-eye-state")
    assert (eeg.values.min(), eeg.values.max()) == (3000, 6000)
    assert (eeg.values[:, 0] == 4096.92)[0]  # O1, the eighth column of the file
    assert str(loaded("chicago-transit").times[-1])[:10] == "2019-12-31"
    assert str(loaded("sp500").times[0])[:10] == "1990-01-02"


def test_inputs_never_give_the_target_away():
    assert not {"casual", "registered"} & set(loaded("bike-sharing-dc").columns)
    assert "eyeDetection" not in loaded("eeg-eye-state").columns
    assert loaded("m4-hourly").columns == ("H386",)
    for name in sorted({*FETCHED} - {"household-minute"}):
        if (DATA / DATASETS[name].file).exists():
            assert not copies_of_the_target(name), name


def copies_of_the_target(name: str) -> list[int]:
    return copies(loaded(name).values)


def copies(values: np.ndarray) -> list[int]:
    return [i for i in range(1, values.shape[1]) if np.array_equal(values[:, 0], values[:, i], equal_nan=True)]


@pytest.mark.slow
def test_fixes_that_the_minutes_of_the_household_need():
    minute = loaded("household-minute")
    assert not copies_of_the_target("household-minute")
    assert np.isnan(minute.values[:, 0]).sum() == 3_775
    hour = minute.values[36 : 36 + 60, 0]  # from 18:00 of the first day, day before month
    assert str(minute.times[36]) == "2006-12-16T18:00:00.000000000"
    np.testing.assert_allclose(loaded("household-hourly").values[1, 0], hour.sum())


@pytest.mark.slow
def test_panel_is_the_members_that_are_always_there():
    panel = loaded("sp500-panel")
    rows = list(csv.DictReader(io.StringIO(unpacked(needs("sp500-panel")).decode())))
    closes: dict[str, dict[str, str]] = {}
    for row in rows:
        closes.setdefault(row["Name"], {})[row["date"]] = row["close"]
    days = sorted({row["date"] for row in rows})
    complete = {name for name, close in closes.items() if len(close) == len(days)}
    assert panel.columns[0] == "AAPL"
    assert set(panel.columns) == complete
    assert [str(time)[:10] for time in panel.times] == days
    for name in ("AAPL", "XOM"):
        np.testing.assert_array_equal(
            panel.values[:, panel.columns.index(name)], [float(closes[name][day]) for day in days]
        )


def test_target_alone_and_the_first_rows():
    whole = loaded("etth1")
    part = load("etth1", data_dir=DATA, rows=500)
    assert part.columns == ("OT",)
    np.testing.assert_array_equal(part.values, whole.values[:500, :1])
    np.testing.assert_array_equal(part.times, whole.times[:500])
    assert len(load("etth1", data_dir=DATA, rows=10**6).times) == 17_420


def test_plain_copy_is_as_good_as_the_packed_one(tmp_path):
    entry = DATASETS["heart-rate"]
    (tmp_path / "series").mkdir()
    (tmp_path / entry.file.removesuffix(".gz")).write_bytes(unpacked(needs("heart-rate")))
    assert load("heart-rate", data_dir=tmp_path).digest == load("heart-rate", data_dir=DATA).digest


def test_statsmodels_ships_the_same_co2():
    ours, theirs = loaded("co2-mauna-loa"), embedded()[0]
    np.testing.assert_array_equal(ours.times, theirs.times)
    np.testing.assert_allclose(ours.values, theirs.values)


def test_sources_are_blocks():
    blocks: dict[str, set[str]] = {}
    for entry in map(DATASETS.get, FETCHED):
        blocks.setdefault(entry.block, set()).add(entry.name)
    assert [names for names in blocks.values() if len(names) > 1] == [
        {"sp500", "sp500-panel"},
        {"household-hourly", "household-minute"},
        {"etth1", "ettm1"},
        {"etth2", "ettm2"},
    ]


def test_every_one_has_an_address_a_licence_and_a_sum():
    for entry in DATASETS.values():
        assert entry.url.startswith("https://"), entry.name
        assert entry.licence, entry.name
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256), entry.name


SERIES = Path(builtin.__file__).parent / "series"


def test_twelve_series_of_twelve_sources_ship_and_every_one_is_attributed():
    assert len({DATASETS[name].block for name in SHIPPED}) == len(SHIPPED) == 12
    assert {path.name for path in SERIES.glob("*.gz")} == {f"{name}.csv.gz" for name in SHIPPED}
    assert sum(path.stat().st_size for path in SERIES.iterdir()) < 300_000
    rows = re.findall(r"^\| (\S+)\.csv\.gz \| \[(.+?)\]\((\S+)\) \| (.+?) \| (.+?) \| (.+?) \|$", attribution(), re.M)
    assert [name for name, *_ in rows] == list(SHIPPED)
    for name, source, home, authors, licence, changed in rows:
        entry = DATASETS[name]
        assert (source, home, licence) == (entry.source, entry.home, entry.licence)
        assert entry.licence.startswith(("CC BY 4.0", "CC0", "public domain"))  # each lets the file be passed on
        assert authors
        assert f"{entry.rows:,} rows" in changed


def attribution() -> str:
    return (SERIES / "ATTRIBUTION.md").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_series_is_the_beginning_of_the_whole(name):
    series, whole = load(name, data_dir="nowhere", inputs="all"), loaded(DATASETS[name].part_of)
    assert (series.target, series.season) == (whole.target, whole.season)
    rows = slice(0, len(series.times))
    np.testing.assert_array_equal(series.times, whole.times[rows])
    chosen = [whole.columns.index(column) for column in series.columns]
    np.testing.assert_array_equal(series.values, whole.values[rows, chosen])


def test_a_shipped_series_needs_no_folder_no_cache_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNAPTIC_PRUNING_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr("synaptic_pruning.tasks.download._download", None)
    for name in SHIPPED:
        series = load(name, inputs="all")
        assert len(series.times) == DATASETS[name].rows >= 1500
        assert np.isfinite(series.values).mean() > 0.8
        assert not copies(series.values)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"name": "eth1"}, ["'eth1'", "did you mean 'etth1'"]),
        ({"name": "ETTh1"}, ["'ETTh1'", "'etth1'"]),
        ({"name": "zzz"}, ["'zzz'", "air-quality"]),
        ({"name": "etth1", "rows": 1}, ["rows=1", "17,420"]),
        ({"name": "etth1", "inputs": "some"}, ["inputs='some'", "'all'"]),
    ],
)
def test_bad_arguments_are_refused_before_any_file_is_touched(tmp_path, arguments, fragments):
    with pytest.raises(DataError) as caught:
        load(**arguments, data_dir=tmp_path / "absent")
    for fragment in fragments:
        assert fragment in str(caught.value)
