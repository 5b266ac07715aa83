"""CSV files read as they are, and every fault named."""

import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.tasks.forecasting import DataError, read_csv
from synaptic_pruning.tasks.forecasting.data.reading.dates import parse_times
from synaptic_pruning.tasks.forecasting.data.reading.timestamps import regular_grid

SHARED = Path(os.environ.get("SYNAPTIC_PRUNING_SHARED", Path(__file__).parents[3] / ".." / "shared"))


def shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def daily(values, start="2024-01-01"):
    days = pd.date_range(start, periods=len(values))
    return "day,y\n" + "".join(f"{day.date()},{value}\n" for day, value in zip(days, values, strict=True))


def test_wide_file(write):
    (series,) = read_csv(write("date,a,b,kind\n2024-01-01,1,5,x\n2024-01-02,,6,y\n2024-01-03,3,7,x\n"), "b")
    assert series.name == "data"
    assert series.columns == ("b", "a")  # target first, the wholly text column left out
    np.testing.assert_array_equal(series.values, [[5, 1], [6, np.nan], [7, 3]])
    assert series.times[0] == np.datetime64("2024-01-01")
    assert series.times.dtype == "datetime64[ns]"
    assert series.season == 7


def test_columns_choose_and_order_the_inputs(write):
    path = write("date,a,b,c\n2024-01-01,1,5,8\n2024-01-02,2,6,9\n")
    assert read_csv(path, "b", columns=["c", "a"])[0].columns == ("b", "c", "a")
    assert read_csv(path, "b", columns=[])[0].columns == ("b",)


def test_long_file_gives_one_series_an_id(write):
    path = write("unique_id,ds,y\nB,2024-01-01,1\nA,2024-01-01,7\nB,2024-01-02,2\nA,2024-01-02,8\n")
    series = read_csv(path, "y")
    assert [one.name for one in series] == ["B", "A"]
    assert [one.values.ravel().tolist() for one in series] == [[1, 2], [7, 8]]


def test_numeric_ids_stay_text_and_times_may_be_numbers(write):
    (series,) = read_csv(write("unique_id,ds,y\n007,1,5\n007,2,6\n"), "y")
    assert series.name == "007"
    assert series.times.tolist() == [1, 2]


def test_rows_are_numbered_without_a_time_column(write):
    (series,) = read_csv(write("a,y\n3,1\n2,4\n"), "y")
    assert series.times.tolist() == [0, 1]
    assert series.columns == ("y", "a")


def test_missing_marks_match_as_numbers_and_as_text(write):
    path = write("y;x\n1,5;?\n-200,0;2\n-200;3\n2;4\n")
    (series,) = read_csv(path, "y", separator=";", decimal=",", missing=[-200, "?"])
    np.testing.assert_array_equal(series.values, [[1.5, np.nan], [np.nan, 2], [np.nan, 3], [2, 4]])


def test_compressed_file_and_byte_order_mark(tmp_path):
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress("\ufeffy\n1\n2\n".encode()))
    assert read_csv(path, "y")[0].name == "data"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["13/01/2024", "14/01/2024"], "2024-01-13"),
        (["01/13/2024", "01/14/2024"], "2024-01-13"),
        (["30.04.2024 18.00.00", "30.04.2024 19.00.00"], "2024-04-30T18:00:00"),
        (["30.04.2024 18.00", "30.04.2024 19.00"], "2024-04-30T18:00:00"),
        (["2024/4/3 01:02:03", "2024/4/3 01:02:04"], "2024-04-03T01:02:03"),
        (["2024-04-03T02:00:00+02:00", "2024-04-03T03:00:00+02:00"], "2024-04-03T00:00:00"),
        (["09/03/2024", "10/03/2024", "01/04/2024"], "2024-03-09"),  # only day first increases
        (["2024-04-03 01:02:03.5", "2024-04-03 01:02:04"], "2024-04-03T01:02:03.5"),
    ],
)
def test_dates(cells, expected):
    assert parse_times(pd.Series(cells), "when").times[0] == np.datetime64(expected)


@pytest.mark.parametrize("cells", [["01/02/2024", "01/03/2024"], ["13/01/2024", "01/14/2024"]])
def test_dates_that_could_be_either_are_refused(cells):
    with pytest.raises(DataError, match="date_format='%d/%m/%Y' or date_format='%m/%d/%Y'"):
        parse_times(pd.Series(cells), "when")


@pytest.mark.parametrize(
    ("frequency", "season"),
    [("h", 24), ("15min", 96), ("D", 7), ("B", 5), ("W", 52), ("MS", 12), ("ME", 12), ("QS", 4), ("YS", 1)],
)
def test_calendar_frequencies_are_regular_and_their_holes_found(frequency, season):
    times = pd.date_range("2023-01-01", periods=60, freq=frequency).to_numpy().astype("datetime64[ns]")
    grid = regular_grid(times)
    np.testing.assert_array_equal(grid.times, times)
    assert grid.season == season
    np.testing.assert_array_equal(regular_grid(np.delete(times, [7, 8, 30])).times, times)


def test_irregular_times_do_not_explode_the_grid():
    times = np.array([0, 1, 2, 10**9, 3 * 10**9]).astype("datetime64[s]").astype("datetime64[ns]")
    assert len(regular_grid(times).times) < 1000


def test_gaps(write):
    text = daily(range(10)).replace("2024-01-04,3\n", "").replace("2024-01-08,7\n", "")
    with pytest.raises(DataError, match=r"lacks 2 timestamp\(s\), the first 2024-01-04.*gaps='fill'"):
        read_csv(write(text), "y")
    (filled,) = read_csv(write(text), "y", gaps="fill")
    np.testing.assert_array_equal(filled.values[:, 0], [0, 1, 2, np.nan, 4, 5, 6, np.nan, 8, 9])
    assert (np.diff(filled.times) == np.timedelta64(1, "D")).all()
    assert len(read_csv(write(text), "y", gaps="ignore")[0].values) == 8


def test_weekends_are_no_gap_but_a_lacking_weekday_is(write):
    days = pd.bdate_range("2024-01-01", periods=15)
    rows = [f"{day.date()},{number}\n" for number, day in enumerate(days)]
    assert read_csv(write("day,y\n" + "".join(rows)), "y")[0].season == 5
    with pytest.raises(DataError, match="lacks 1 timestamp"):
        read_csv(write("day,y\n" + "".join(rows[:6] + rows[7:])), "y")


BAD = {
    "unknown target": (
        "date,price\n2024-01-01,1\n2024-01-02,2\n",
        {"target": "Prise"},
        "did you mean 'price'",
    ),
    "unknown input": ("y,x\n1,1\n2,2\n", {"columns": ["z"]}, "column 'z' is not in data.csv; it has y, x"),
    "unknown time": ("y,x\n1,1\n2,2\n", {"time": "when"}, "column 'when' is not in"),
    "wrong separator": ("y;x\n1;1\n2;2\n", {}, "pass separator=';'"),
    "empty": ("", {}, "data.csv is empty"),
    "header only": ("y\n", {}, r"0 row\(s\) below its header"),
    "one row": ("y\n1\n", {}, r"1 row\(s\) below its header"),
    "text cell": ("x,y\n1,1\n2,two\n3,3\n", {}, "column 'y' holds 'two' in row 3, not a finite number"),
    "text cell in an input": ("y,x\n1,1\n2,2\n3,oops\n", {}, "column 'x' holds 'oops' in row 4"),
    "text cell in the first column": ("y,x\n1,1\n2x,2\n3,3\n", {}, "column 'y' holds '2x' in row 3"),
    "text column asked for": ("y,x\n1,a\n2,b\n", {"columns": ["x"]}, "column 'x' holds 'a' in row 2"),
    "decimal comma": ('y,x\n"1,5",1\n"2,5",2\n', {}, "pass decimal=','"),
    "infinite cell": ("x,y\n1,1\n2,inf\n", {}, "column 'y' holds 'inf' in row 3"),
    "duplicates": ("date,y\n2024-01-01,1\n2024-01-01,2\n", {}, "stands in rows 2 and 3; keep one"),
    "hours apart": (
        "Date,Time,y\n2024-01-01,10:00,1\n2024-01-01,11:00,2\n",
        {},
        "pass time='Date,Time'",
    ),
    "unsorted": ("date,y\n2024-01-02,1\n2024-01-01,2\n", {}, "in row 3 is earlier than.*sort the file"),
    "unreadable date": ("date,y\n2024-01-02,1\nsoon,2\n", {}, "holds 'soon' in row 3.*YYYY-MM-DD"),
    "lacking date": ("date,y\n2024-01-02,1\n,2\n", {}, "'date' is empty in row 3"),
    "off the step": (
        "date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n2024-01-04 05:00:00,4\n",
        {},
        "1 timestamps are off the regular step of 1 days 00:00:00",
    ),
    "constant": ("y\n5\n5\n5\n", {}, "target 'y' has the constant value 5"),
    "no value": ("y,x\n,1\n,2\n", {}, "target 'y' has no value at all"),
    "ragged": ("y,x\n1,1\n2,2,2\n", {}, "make every row as long as the header"),
    "column twice": ("y,y\n1,1\n2,2\n", {}, "stands twice in the header"),
    "unknown gaps": (
        "y\n1\n2\n",
        {"gaps": "close"},
        "gaps='close' is unknown; use 'error', 'fill' or 'ignore'",
    ),
    "separator is decimal": ("y\n1\n2\n", {"decimal": ","}, "are the same mark, and no cell in quotes holds it"),
    "long separator": ("y\n1\n2\n", {"separator": "::"}, "must be a single character"),
    "bad season": ("y\n1\n2\n", {"season": 0}, "season is 0"),
    "id lacking": ("unique_id,ds,y\nA,1,1\n,2,2\n", {}, "'unique_id' is empty in row 3"),
    "one row an id": ("unique_id,ds,y\nA,1,1\nB,1,2\n", {}, "series 'A' has one row"),
}


@pytest.mark.parametrize(("text", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named_with_its_fix_in_one_sentence(write, text, options, message):
    with pytest.raises(DataError, match=message) as caught:
        read_csv(write(text), **({"target": "y"} | options))
    assert "\n" not in str(caught.value)


TABLE = "y,Grad °C\n1.5,2\n2.5,3\n"
WRITTEN = {
    "UTF-8": (TABLE.encode(), {}),
    "UTF-8 with mark": (TABLE.encode("utf-8-sig"), {}),
    "UTF-16, little end": (b"\xff\xfe" + TABLE.encode("utf-16-le"), {}),
    "UTF-16, big end": (b"\xfe\xff" + TABLE.encode("utf-16-be"), {}),
    "Windows-1252": (TABLE.encode("cp1252"), {}),
    "Windows lines": (TABLE.replace("\n", "\r\n").encode(), {}),
    "old Mac lines": (TABLE.replace("\n", "\r").encode(), {}),
    "no end of line": (TABLE.rstrip().encode(), {}),
    "quoted": (b'"y","Grad \xc2\xb0C"\n"1.5","2"\n"2.5","3"\n', {}),
    "blank lines": (f"\n\n{TABLE}\n\n".encode(), {}),
    "empty rows": (f"{TABLE},\n,\n".encode(), {}),
    "separators behind": (TABLE.replace("\n", ",\n").replace("2,\n", "2,,\n").encode(), {}),
    "tab": (TABLE.replace(",", "\t").encode(), {"separator": "\t"}),
    "separator told": (b"sep=;\n" + TABLE.replace(",", ";").encode(), {"separator": ";"}),
    "comma told": (b"sep=,\n" + TABLE.encode(), {}),
}


@pytest.mark.parametrize(("content", "options"), WRITTEN.values(), ids=WRITTEN)
def test_a_table_is_the_same_however_it_is_stored(tmp_path, content, options):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    (series,) = read_csv(path, "y", columns=["Grad °C"], **options)
    assert series.values.tolist() == [[1.5, 2], [2.5, 3]]


NO_TABLE = {
    "short row": ("y,x\n1,1\n2\n3,3\n", r"row 3 has 1 cell\(s\) and the header 2"),
    "long row": ("y,x\n1,1\n2,2,2\n", r"row 3 has 3 cell\(s\) and the header 2"),
    "comment": ("# made by hand\ny,x\n1,1\n2,2\n", "column 'y' is not in data.csv; it has # made by hand"),
    "comment below": ("y,x\n# by hand\n1,1\n", r"row 2 has 1 cell\(s\)"),
    "no header": ("1.5,2\n2.5,3\n", "its first row, which must name the columns, holds 1.5, 2"),
    "another separator told": ("sep=;\ny;x\n1;1\n2;2\n", "says 'sep=;' in its first line"),
    "quote not closed": ('y,x\n1,"a\n2,b\n', "unexpected end of data in row 2"),
    "quotes around rows": ('y,x\n1,"a\n2,b"\n3,c\n', "line break in row 2"),
    "text behind a quote": ('y,x\n1,"a"b\n2,c\n', "row 2; mend the quotes"),
    "NUL": ("y,x\n1\x002,1\n2,2\n", "NUL character in row 2"),
    "too many columns": (",".join(["y", *map(str, range(10_000))]) + "\n", "10,001 columns, more than 10,000"),
    "no line breaks": ("y" * 2**20 + "y", "more than 1,048,576 characters"),
}


@pytest.mark.parametrize(("text", "message"), NO_TABLE.values(), ids=NO_TABLE)
def test_what_is_no_table_is_refused_in_one_sentence(write, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_csv(write(text), "y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data.csv.gz", "data.csv.xz"])
@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_damaged_compressed_files(tmp_path, name, damage):
    path = tmp_path / name
    packed = (gzip if name.endswith("gz") else lzma).compress(b"y\n1\n2\n" * 1000)
    path.write_bytes(b"no archive" if damage == "foreign" else packed[:-20])
    with pytest.raises(DataError, match="cannot be opened"):
        read_csv(path, "y")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        read_csv(tmp_path / "none.csv", "y")


def test_air_quality_file():
    (series,) = read_csv(
        shared("AirQualityUCI.csv"), "CO(GT)", time="Date,Time", separator=";", decimal=",", missing=[-200]
    )
    assert series.values.shape == (9357, 13)
    assert series.times[0] == np.datetime64("2004-03-10T18:00")
    assert series.times[-1] == np.datetime64("2005-04-04T14:00")
    assert series.values[0, :3].tolist() == [2.6, 1360, 150]
    assert np.isnan(series.values[:, series.columns.index("NMHC(GT)")]).sum() == 8443
    assert np.nanmin(series.values) > -200
    assert series.season == 24


def test_household_files():
    (hourly,) = read_csv(shared("household_power_hourly_2006-2010.csv.xz"), "Global_active_power")
    assert hourly.values.shape == (34589, 8)
    assert hourly.values[0, 0] == 152.024
    assert hourly.season == 24


@pytest.mark.slow
def test_household_minute_file():
    (series,) = read_csv(
        shared("household_power_minute_2006-12-16_2007-06-30.txt.xz"),
        "Global_active_power",
        time="Date,Time",
        separator=";",
        missing=["?"],
    )
    assert series.values.shape == (282636, 7)
    assert series.times[0] == np.datetime64("2006-12-16T17:24")
    assert np.isnan(series.values[:, 0]).sum() == 3775


def test_stock_index_file_has_holidays_for_gaps():
    path = shared("GSPC.csv.xz")
    with pytest.raises(DataError, match="lacks 931 timestamp"):
        read_csv(path, "Close")
    (series,) = read_csv(path, "Close", gaps="ignore")
    assert len(series.values) == 24114
    assert series.season == 5
