"""Times as people write them: read where the column proves one reading, else refused with the form that decides."""

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.tasks.forecasting import DataError, read_csv
from synaptic_pruning.tasks.forecasting.data.reading.dates import parse_times

READ = {
    "ISO": (["2024-01-31", "2024-02-01"], None, "2024-01-31", "dates as YYYY-MM-DD"),
    "ISO with hours": (["2024-01-31T10:00", "2024-01-31 11:00:00.5"], None, "2024-01-31T10:00", "dates as YYYY-MM-DD"),
    "ISO months": (["2024-01", "2024-02"], None, "2024-01-01", "dates as YYYY-MM-DD"),
    "UTC": (["2024-01-31T10:00Z", "2024-01-31T11:00Z"], None, "2024-01-31T10:00", "dates as YYYY-MM-DD, in UTC"),
    "summer begins": (
        ["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"],
        None,
        "2024-03-31T00:00",
        "dates as YYYY-MM-DD, in UTC",
    ),
    "day first, shown": (["03/04/2021", "13/04/2021"], None, "2021-04-03", "dates, the day first"),
    "month first, shown": (["03/04/2021", "03/14/2021"], None, "2021-03-04", "dates, the month first"),
    "day first, as times increase": (
        ["09/03/2024", "10/03/2024", "01/04/2024"],
        None,
        "2024-03-09",
        "dates, the day first, as only then times increase",
    ),
    "day first, told": (["03/04/2021", "04/04/2021"], "%d/%m/%Y", "2021-04-03", "dates as %d/%m/%Y"),
    "month first, told": (["03/04/2021", "04/04/2021"], "%m/%d/%Y", "2021-03-04", "dates as %m/%d/%Y"),
    "two-digit years": (["3.4.21", "4.4.21"], "%d.%m.%y", "2021-04-03", "dates as %d.%m.%y"),
    "names of months": (["5 Jan 2021", "6 Jan 2021"], "%d %b %Y", "2021-01-05", "dates as %d %b %Y"),
    "afternoons": (["01/05/2021 1:00 PM", "01/05/2021 2:00 PM"], "%m/%d/%Y %I:%M %p", "2021-01-05T13:00", None),
    "seconds": (["1609459200", "1609462800"], "s", "2021-01-01", "seconds since 1970"),
    "milliseconds": (["1609459200500", "1609462800500"], "ms", "2021-01-01T00:00:00.5", "milliseconds since 1970"),
    "compact, over a month's end": (
        ["20240131", "20240201", "20240202"],
        None,
        "2024-01-31",
        "dates as %Y%m%d, as only dates have a regular step",
    ),
    "compact months": (["202311", "202312", "202401"], None, "2023-11-01", None),
    "compact, told": (["20240101", "20240102"], "%Y%m%d", "2024-01-01", "dates as %Y%m%d"),
    "compact hours": (["2024013122", "2024013123", "2024020100"], None, "2024-01-31T22", None),
}


@pytest.mark.parametrize(("cells", "date_format", "first", "form"), READ.values(), ids=READ)
def test_times_are_read_and_said(cells, date_format, first, form):
    times, said, _ = parse_times(pd.Series(cells), "when", date_format)
    assert times.dtype == "datetime64[ns]"
    assert times[0] == np.datetime64(first)
    assert (np.diff(times) > np.timedelta64(0)).all()
    assert form in (None, said)


@pytest.mark.parametrize(
    ("cells", "date_format"),
    [
        (["1", "2"], None),
        (["2019", "2020"], None),
        (["1609459200", "1609462800"], None),  # seconds or not, they are read as they stand, and said to be so
        (["45292", "45293"], None),
        (["20240101", "20240102"], "number"),
    ],
)
def test_whole_numbers_stay_numbers(cells, date_format):
    times, form, _ = parse_times(pd.Series(cells), "when", date_format)
    assert times.tolist() == [int(cell) for cell in cells]
    assert form == "whole numbers"


REFUSED = {
    "day or month": (["03/04/2021", "04/04/2021"], None, "'%d/%m/%Y' or date_format='%m/%d/%Y'"),
    "day or month, with points": (["03.04.2021", "04.04.2021"], None, "'%d.%m.%Y' or date_format='%m.%d.%Y'"),
    "day or month, with hours": (["03-04-2021 10:00", "04-04-2021 10:00"], None, "'%d-%m-%Y %H:%M' or"),
    "day and month": (["13/01/2024", "01/14/2024"], None, "does not tell"),
    "a date or a number": (["20240101", "20240102"], None, "date_format='%Y%m%d' or date_format='number'"),
    "two-digit years": (["03/04/21", "04/04/21"], None, "'03/04/21' in row 0.*date_format="),
    "names of months": (["5 Jan 2021", "6 Jan 2021"], None, "'5 Jan 2021' in row 0"),
    "afternoons": (["2021-01-05 1:00 PM", "2021-01-05 2:00 PM"], None, "in row 0"),
    "zones by name": (["2021-01-05 01:00 CET", "2021-01-05 02:00 CET"], None, "in row 0"),
    "offset here and there": (["2021-01-05T01:00+01:00", "2021-01-05T02:00"], None, "in row 1 without an offset"),
    "no such day": (["2023-02-28", "2023-02-29"], None, "'2023-02-29' in row 1"),
    "no such hour": (["2023-02-28 23:00", "2023-02-28 24:00"], None, "24:00' in row 1"),
    "now": (["2023-02-28", "now"], None, "'now' in row 1"),
    "serial dates with hours": (["45292.0", "45292.5"], None, "'45292.0' in row 0"),
    "another form than told": (["03.04.21", "2021-04-04"], "%d.%m.%y", "'2021-04-04' in row 1.*'%d.%m.%y'"),
    "seconds that are none": (["1609459200", "soon"], "s", "'soon' in row 1"),
    "numbers that are none": (["1", "1.5"], "number", "'1.5' in row 1, not a whole number"),
    "unknown form": (["1", "2"], "seconds", "date_format='seconds' is unknown"),
    "unknown letter": (["1", "2"], "%Q", "date_format='%Q' is no form of dates"),
    "far past": (["0900-01-01", "0901-01-01"], None, "1678 to 2261"),
    "empty": (["2021-01-01", " "], None, "empty in row 1"),
}


@pytest.mark.parametrize(("cells", "date_format", "message"), REFUSED.values(), ids=REFUSED)
def test_other_times_are_refused_in_one_sentence(cells, date_format, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_times(pd.Series(cells), "when", date_format)
    assert "\n" not in str(caught.value)


def read(tmp_path, text, **options):
    path = tmp_path / "data.csv"
    path.write_text(text)
    return read_csv(path, "y", **options)[0]


def test_year_month_and_day_in_columns_of_their_own(tmp_path):
    text = "y,Year,Month,Day\n1,2024,2,28\n2,2024,2,29\n3,2024,3,1\n"
    series = read(tmp_path, text, time="Year,Month,Day", date_format="%Y %m %d")
    assert series.times.astype("datetime64[D]").astype(str).tolist() == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert series.columns == ("y",)


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        (["01:00", "02:00", "02:00", "03:00"], "stands in rows 3 and 4"),  # autumn, without offsets
        (["01:00", "03:00", "02:00", "04:00"], "in row 4 is earlier"),
        (["00:00", "01:00", "02:00", "04:00"], "lacks 1 timestamp"),  # spring
    ],
)
def test_repeated_unsorted_and_lacking_hours_are_refused(tmp_path, hours, message):
    text = "when,y\n" + "".join(f"2024-10-27 {hour},{n}\n" for n, hour in enumerate(hours))
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_form_without_a_time_column_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no time column"):
        read(tmp_path, "y,x\n1,1\n2,2\n", date_format="%Y")


def test_an_empty_row_is_a_step_in_time_where_rows_are_numbered(tmp_path):
    text = "y\n1\n\n3\n4\n\n\n"
    with pytest.raises(DataError, match="lacks 1 timestamp"):
        read(tmp_path, text)
    np.testing.assert_array_equal(read(tmp_path, text, gaps="fill").values[:, 0], [1, np.nan, 3, 4])
    assert read(tmp_path, text, gaps="ignore").values[:, 0].tolist() == [1, 3, 4]


@pytest.mark.parametrize(("order", "second"), [("day first", "2021-04-05"), ("month first", "2021-05-04")])
def test_the_order_that_one_file_shows_reads_another_that_does_not(order, second):
    told = ["13/04/2021", "14/04/2021"] if order == "day first" else ["04/13/2021", "04/14/2021"]
    _, _, found = parse_times(pd.Series(told), "when")
    assert found == order
    cells = pd.Series(["04/04/2021", "05/04/2021"])
    with pytest.raises(DataError, match="does not tell whether"):
        parse_times(cells, "when")
    assert parse_times(cells, "when", found).times[1] == np.datetime64(second)
    assert parse_times(pd.Series(["2021-04-05"]), "when", found).date_format is None
