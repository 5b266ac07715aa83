"""Parquet, encodings and spreadsheets: the same rows give the same series, and what cannot be read is refused."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from synaptic_pruning.tasks.forecasting import DataError, Recent, read_csv

ROWS = 40


def frame(**more):
    generator = np.random.default_rng(0)
    values = generator.standard_normal(ROWS) / 3
    values[5] = np.nan
    days = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    return pd.DataFrame({"day": days, "y": values, "x": generator.integers(0, 2000, ROWS), **more})


def same(one, other):
    assert (one.columns, one.season) == (other.columns, other.season)
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.values, other.values)


def test_parquet_gives_what_its_csv_gives(tmp_path):
    table = frame(label="a", on=[True, False] * (ROWS // 2))
    table.to_csv(tmp_path / "wave.csv", index=False)
    table.to_parquet(tmp_path / "wave.parquet", index=False)
    (plain,), (typed,) = (read_csv(tmp_path / name, "y") for name in ("wave.csv", "wave.parquet"))
    same(plain, typed)
    np.testing.assert_array_equal(typed.values[:, 0], table["y"])  # to the last bit
    assert "left out, as without numbers, label" in typed.reading
    assert typed.reading.endswith("; Parquet.")


def test_parquet_with_the_times_as_index(tmp_path):
    frame().set_index("day").to_parquet(tmp_path / "wave.parquet")
    (series,) = read_csv(tmp_path / "wave.parquet", "y", separator=";", decimal=",")  # cells have types
    np.testing.assert_array_equal(series.times, frame()["day"].to_numpy().astype("datetime64[ns]"))


def test_long_parquet_and_its_default_target(tmp_path):
    parts = [frame().rename(columns={"day": "ds"}).assign(unique_id=name) for name in ("a", "b")]
    pd.concat(parts).to_parquet(tmp_path / "long.parquet", index=False)
    assert [(series.name, series.target) for series in read_csv(tmp_path / "long.parquet")] == [("a", "y"), ("b", "y")]


def test_a_wide_file_needs_a_target(tmp_path):
    frame().to_csv(tmp_path / "wave.csv", index=False)
    with pytest.raises(DataError, match=r"target=None names no column of wave\.csv to forecast; it has day, y, x\."):
        read_csv(tmp_path / "wave.csv")


def test_damaged_parquet(tmp_path):
    (tmp_path / "wave.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be opened"):
        read_csv(tmp_path / "wave.parquet", "y")
    with pytest.raises(DataError, match=r"absent\.parquet cannot be opened"):
        read_csv(tmp_path / "absent.parquet", "y")


@pytest.mark.parametrize("start", [b"\xd0\xcf\x11\xe0\xa1\xb1", None])
def test_spreadsheets_are_refused_by_name(tmp_path, start):
    path = tmp_path / "sales.xlsx"
    if start is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
    else:
        path.write_bytes(start + bytes(500))
    with pytest.raises(DataError, match=r"sales\.xlsx is a spreadsheet; save it as CSV \(UTF-8\) or Parquet"):
        read_csv(path, "y")


def test_encodings(tmp_path):
    path, text = tmp_path / "wave.csv", frame().rename(columns={"y": "wärme ř"}).to_csv(index=False)
    path.write_bytes(text.encode("cp1250"))
    (series,) = read_csv(path, "wärme ř", encoding="cp1250")
    assert series.target == "wärme ř"
    assert series.reading.endswith("; cp1250.")
    with pytest.raises(DataError, match=r"encoding='cp125' is unknown; use a name such as"):
        read_csv(path, "y", encoding="cp125")
    with pytest.raises(DataError, match=r"encoding='hex' is unknown"):
        read_csv(path, "y", encoding="hex")
    with pytest.raises(DataError, match=r"wave\.csv is no text in 'utf-8'; pass its encoding"):
        read_csv(path, "y", encoding="utf-8")
    path.write_bytes(text.encode("cp1250") + "2024-06-01,\x81,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"wave\.csv is no text in UTF-8, UTF-16 or Windows-1252"):
        read_csv(path, "y")


def test_columns_that_were_not_asked_for(tmp_path):
    frame().to_csv(tmp_path / "wave.csv", index=False)
    (series,) = read_csv(tmp_path / "wave.csv", "y", columns=[])
    assert series.columns == ("y",)
    assert "left out, as not asked for, x" in series.reading


def test_recent_rows_need_not_vary(tmp_path):
    frame().assign(y=0.0).to_csv(tmp_path / "dry.csv", index=False)
    with pytest.raises(DataError, match="constant"):
        read_csv(tmp_path / "dry.csv", "y")
    (rows,) = read_csv(tmp_path / "dry.csv", "y", recent=True)
    assert isinstance(rows, Recent)
