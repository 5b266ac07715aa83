"""Numbers as people write them: read where there is one reading, else refused with the option that decides."""

import csv
import io
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synaptic_pruning.tasks.forecasting import DataError, read_csv

NBSP, NARROW, THIN, MINUS, QUOTE = "\u00a0", "\u202f", "\u2009", "\u2212", "\u2019"


@pytest.fixture
def read(tmp_path):
    """The values of a target with these cells, beside an input that nobody can misread."""

    def read(cells, **options):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=options.get("separator", ","), lineterminator="\n")
        writer.writerows([("y", "x"), *((cell, number) for number, cell in enumerate(cells))])
        path = tmp_path / "data.csv"
        path.write_text(text.getvalue(), "utf-8")
        (series,) = read_csv(path, "y", **options)
        return series.values[:, 0].tolist()

    return read


COMMA, POINT = {"decimal": ","}, {"decimal": "."}
READ = {
    "German with both marks": (["1.234,5", "2.201", "851"], COMMA, [1234.5, 2201, 851]),
    "German millions": (["1.234.567", "2.201", "851"], COMMA, [1234567, 2201, 851]),
    "German, told": (["2.201", "851", "1.044"], {"decimal": ",", "thousands": "."}, [2201, 851, 1044]),
    "a point between thousands tells the decimal mark": (["2.201", "851", "3,5"], {"thousands": "."}, [2201, 851, 3.5]),
    "decimal comma alone": (["2,201", "851"], COMMA, [2.201, 851]),
    "comma without any comma": (["12", "851", "7"], {"separator": ";", **COMMA}, [12, 851, 7]),
    "English with both marks": (["1,234.5", "2,201", "851"], {}, [1234.5, 2201, 851]),
    "English millions": (["1,234,567", "2,201", "-1,000"], {}, [1234567, 2201, -1000]),
    "English, told": (["2,201", "851"], {"thousands": ","}, [2201, 851]),
    "English, told, with ungrouped ones": (["2,201", "1234.5"], {"thousands": ","}, [2201, 1234.5]),
    "a decimal point, told": (["2.201", "851"], POINT, [2.201, 851]),
    "a decimal point beside commas, told": (["2.201", "851"], {"thousands": ","}, [2.201, 851]),
    "three decimals throughout": (["234.840", "233.630"], {}, [234.84, 233.63]),
    "three decimals and a shorter one": (["2.201", "851", "2.5"], {}, [2.201, 851, 2.5]),
    "three decimals and a zero before": (["2.201", "851", "0.125"], {}, [2.201, 851, 0.125]),
    "Indian": (["1,23,456", "12,34,567.5", "2,201"], {}, [123456, 1234567.5, 2201]),
    "space": (["1 234,5", "851"], COMMA, [1234.5, 851]),
    "no-break space": ([f"1{NBSP}234,5", f"12{NBSP}345{NBSP}678"], COMMA, [1234.5, 12345678]),
    "narrow no-break space": ([f"1{NARROW}234", "851"], {}, [1234, 851]),
    "thin space": ([f"1{THIN}234.25", "851"], {}, [1234.25, 851]),
    "spaces of two kinds": ([f"1{NARROW}234", "2 345"], {"thousands": NBSP}, [1234, 2345]),
    "Swiss": (["1'234.5", f"2{QUOTE}201", "851"], {}, [1234.5, 2201, 851]),
    "Swiss, told": (["1'234.5", "851"], {"thousands": QUOTE}, [1234.5, 851]),
    "signs": (["+5", "-3", f"{MINUS}2.5", f"{MINUS}1,234.5"], {}, [5, -3, -2.5, -1234.5]),
    "scientific": (["1e3", "2.5E-2", "-1.e+1", ".5"], {}, [1000, 0.025, -10, 0.5]),
    "scientific with a comma": (["1,5e3", "2"], COMMA, [1500, 2]),
    "blanks around": ([" 5 ", "\t6"], {}, [5, 6]),
    "booleans": (["True", "false", "TRUE"], {}, [1, 0, 1]),
    "quoted decimal commas": (["1,5", "2,25"], COMMA, [1.5, 2.25]),
    "words for no value": (["1", "", "NaN", "nan", "NA", "n/a", "N/A", "null", "NULL", "None", "#N/A", "2"], {}, None),
    "told words for no value": (["1", "-", "?", "-9999", "-9999.0", "2"], {"missing": ["-", "?", -9999]}, None),
}


@pytest.mark.parametrize(("cells", "options", "expected"), READ.values(), ids=READ)
def test_one_reading_is_read(read, cells, options, expected):
    expected = [1] + [np.nan] * (len(cells) - 2) + [2] if expected is None else expected
    np.testing.assert_array_equal(read(cells, **options), expected)


DOUBTFUL = {
    "the report's case": (["2.201", "851", "1.044"], {"separator": ";", **COMMA}, ".", ["2201", "2.201"]),
    "every cell marked": (["2.201", "1.044"], COMMA, ".", ["2201", "2.201"]),
    "beside decimal commas": (["2.201", "3,5"], COMMA, ".", ["2201", "2.201"]),
    "default options, point": (["851", "2.201", "1.044"], {}, ".", ["2201", "2.201"]),
    "default options, comma": (["2,201", "851"], {}, ",", ["2201", "2.201"]),
    "default options, every cell": (["2,201", "1,044"], {}, ",", ["2201", "2.201"]),
    "beside decimal points": (["2,201", "3.5"], {}, ",", ["2201", "2.201"]),
    "beside spaces": (["1 234", "2,201"], {}, ",", ["2201", "2.201"]),
    "told another mark": (["1 234", "2,201"], {"thousands": " "}, ",", ["2201", "2.201"]),
    "negative": (["-2,201", "851"], {}, ",", ["-2201", "-2.201"]),
}


@pytest.mark.parametrize(("cells", "options", "mark", "readings"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_two_readings_are_refused_with_both_options_that_decide(read, cells, options, mark, readings):
    with pytest.raises(DataError) as caught:
        read(cells, **options)
    message = str(caught.value)
    assert f"whether that is {readings[0]} or {readings[1]}; " in message
    assert f"pass thousands={mark!r} for the one or decimal={mark!r} for the other." in message


@pytest.mark.parametrize(("thousands", "expected"), [(True, [2201, 851]), (False, [2.201, 851])])
@pytest.mark.parametrize("mark", [".", ","])
def test_the_options_that_the_refusal_names_decide(read, mark, thousands, expected):
    options = {"thousands": mark} if thousands else {"decimal": mark}
    assert read([f"2{mark}201", "851"], separator=";", **options) == expected


REFUSED = {
    "decimal comma": (["12,5", "1"], {}, "'12,5' in row 2.*pass decimal=','"),
    "decimal comma below one": (["0,123", "1"], {}, "'0,123' in row 2.*pass decimal=','"),
    "decimal comma and points": (["1.234,5", "1"], {}, "pass decimal=',' and thousands='.'"),
    "points between thousands": (["1.234.567", "1"], {}, "pass decimal=',' and thousands='.'"),
    "decimal point": (["12.5", "1"], COMMA, "'12.5' in row 2.*pass decimal='.'"),
    "decimal point and commas": (["1,234.5", "1"], COMMA, "pass decimal='.' and thousands=','"),
    "no thousands": (["12,5", "1"], {"thousands": ","}, "pass decimal=',' and no thousands=','"),
    "another mark between thousands": (["1'234", "1"], {"thousands": ","}, 'pass thousands="\'"'),
    "two marks between thousands": (["1 234.5", "1,234.5"], {}, "has both ' ' and ',' between thousands"),
    "groups of four": (["1,2345", "12,3456.5"], {}, "'1,2345' in row 2"),
    "a group too short": (["1,234.5", "1,23"], {}, "'1,23' in row 3"),
    "mark after the decimal mark": (["1.234,567", "1,5"], {}, "'1.234,567' in row 2"),
    "trailing minus": (["5-", "1"], {}, "'5-' in row 2"),
    "parentheses": (["(5)", "1"], {}, r"'\(5\)' in row 2"),
    "percent": (["5%", "1"], {}, "'5%' in row 2"),
    "currency": (["$5", "1"], {}, r"'\$5' in row 2"),
    "currency behind": (["5 €", "1"], {}, "'5 €' in row 2"),
    "hexadecimal": (["0x1F", "1"], {}, "'0x1F' in row 2"),
    "underscore": (["1_000", "1"], {}, "'1_000' in row 2"),
    "full-width digits": (["１２", "1"], {}, "'１２' in row 2"),
    "infinite": (["1", "-inf", "Infinity"], {}, "'-inf' in row 3, not a finite number"),
    "too large for a float": (["1e999", "1"], {}, "'1e999' in row 2, not a finite number"),
    "dash": (["1", "-", "2"], {}, r"'-' in row 3.*pass missing=\['-'\]"),
    "question mark": (["1", "?", "2"], {}, r"pass missing=\['\?'\]"),
    "boolean among numbers": (["1", "True", "2"], {}, "'True' in row 3"),
    "unknown decimal mark": (["1", "2"], {"decimal": ";"}, "decimal=';' is no decimal mark; use '.' or ','"),
    "unknown mark": (["1", "2"], {"thousands": "_"}, "thousands='_' is no mark between thousands"),
    "empty mark": (["1", "2"], {"thousands": ""}, "thousands='' is no mark between thousands"),
    "one mark for both": (["1", "2"], {"decimal": ",", "thousands": ","}, "are the same mark; pass decimal='.'"),
}


@pytest.mark.parametrize(("cells", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_number_is_refused_in_one_sentence(read, cells, options, message):
    with pytest.raises(DataError, match=message) as caught:
        read(cells, **options)
    assert "\n" not in str(caught.value)


def written(value: float, decimal: str, thousands: str) -> str:
    """Python's own way to group digits, with other marks."""
    return f"{value:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.integers(-(10**11), 10**11), min_size=2, max_size=8, unique=True),
    marks=st.sampled_from(list(permutations([",", ".", " ", "'"], 2))).filter(lambda marks: marks[0] in ",."),
    told=st.booleans(),
)
def test_grouped_numbers_are_what_python_wrote_and_what_pandas_reads(tmp_path_factory, values, marks, told):
    decimal, thousands = marks
    values = [value / 100 for value in values]
    cells = [written(value, decimal, thousands) for value in values]
    path = tmp_path_factory.getbasetemp() / "grouped.csv"
    path.write_text("\n".join(["y;x", *(f"{cell};{place}" for place, cell in enumerate(cells))]))
    (series,) = read_csv(path, "y", separator=";", decimal=decimal, thousands=thousands if told else None)
    assert series.values[:, 0].tolist() == values
    frame = pd.read_csv(path, sep=";", decimal=decimal, thousands=thousands)
    np.testing.assert_allclose(series.values[:, 0], frame["y"].astype(float), rtol=1e-15)


def test_an_input_in_doubt_is_refused_too_and_text_is_left_out(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("y;x;kind;version\n1;2.201;a;1.2.3\n2;851;5a;1.2.4\n")
    with pytest.raises(DataError, match=r"column 'x' holds '2.201'"):
        read_csv(path, "y", separator=";")
    (series,) = read_csv(path, "y", separator=";", thousands=".")
    assert series.columns == ("y", "x")
    assert "left out, as without numbers, kind, version" in series.reading


def test_what_was_read_is_said_in_one_line(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(
        "day;sold;price;place;temp °\n01.02.2024;1.234;2,5;a;-999\n02.02.2024;n/a;1.234,5;b;-999\n"
        "13.02.2024;12;;c;3\n;;;;\n".encode("cp1252")
    )
    (series,) = read_csv(path, "sold", separator=";", thousands=".", gaps="fill")
    assert series.reading == (
        "data.csv: 3 rows; times from 'day': dates, the day first; 10 missing rows filled in; target 'sold'; "
        "inputs price, temp °; left out, as without numbers, place; missing 33 % of sold, 33 % of price; "
        "-999 stands 2 times in temp ° and counts as a number; ';' between cells; decimal mark ','; "
        "'.' between thousands in sold, price; Windows-1252."
    )
    assert len(series.values) == 13
    assert series.values[[0, 1, 12]].tolist()[0] == [1234, 2.5, -999]
