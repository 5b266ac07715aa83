"""Wrong inputs of the commands on series: one sentence with the fix, exit code 2, and everything as it was."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synaptic_pruning.cli import app

ROWS = 60
DAYS = [f"{day:%Y-%m-%d}" for day in pd.date_range("2024-01-01", periods=ROWS)]
WAVE = [f"{np.sin(n):.3f}" for n in range(ROWS)]


def table(days=DAYS, y=WAVE, header="day,y,x", line="{},{},{}") -> str:
    return "\n".join(
        [header, *(line.format(day, value, n) for n, (day, value) in enumerate(zip(days, y, strict=False)))]
    )


def changed(values: list[str], place: int, to: str) -> list[str]:
    return [*values[:place], to, *values[place + 1 :]]


PLAIN = table().encode()
FILES: dict[str, bytes] = {
    "good.csv": PLAIN,
    "twin/good.csv": PLAIN,
    "empty.csv": b"",
    "header.csv": b"day,y,x\n",
    "one.csv": b"day,y,x\n2024-01-01,1,2\n",
    "blank.csv": table(y=[""] * ROWS).encode(),
    "constant.csv": table(y=["3"] * ROWS).encode(),
    "word.csv": table(y=changed(WAVE, 40, "broken")).encode(),
    "infinite.csv": table(y=changed(WAVE, 40, "inf")).encode(),
    "gap.csv": table(days=[*DAYS[:30], *DAYS[31:]]).encode(),
    "twice.csv": table(days=changed(DAYS, 20, DAYS[19])).encode(),
    "backwards.csv": table(days=DAYS[::-1]).encode(),
    "nodate.csv": table(days=changed(DAYS, 20, "soon")).encode(),
    "eithermonth.csv": table(days=[f"{n:02}/05/2024" for n in range(1, 13)]).encode(),
    "semicolons.csv": table(header="day;y;x", line="{};{};{}").encode(),
    "decimals.csv": table(header="day;y;x", line="{};{};{}", y=[w.replace(".", ",") for w in WAVE]).encode(),
    "ragged.csv": PLAIN + b"\n2024-06-01,1",
    "quotes.csv": PLAIN + b'\n2024-06-01,"1,2',
    "doubled.csv": table(header="day,y,y").encode(),
    "noheader.csv": PLAIN.partition(b"\n")[2],
    "nul.csv": PLAIN + b"\n2024-06-01,\0,1",
    "japanese.csv": table(header="データ,y,x").encode("shift_jis"),
    "half.csv.gz": gzip.compress(PLAIN)[:-40],
    "no.csv.gz": PLAIN,
    "sales.xlsx": b"PK\x03\x04" + bytes(200),
    "old.xls": b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(200),
    "damaged.parquet": b"PAR1" + bytes(50),
    "long.csv": "\n".join(
        ["unique_id,ds,y", *(f"a,{d},{v}" for d, v in zip(DAYS, WAVE, strict=True)), ",2024-06-01,1"]
    ).encode(),
    "wrong.toml": b"title = 'x'\nmodells = ['rnn']\n",
}
Y = ["--target", "y"]
COMPARE: list[tuple[list[str], str]] = [
    ([], "--target is missing and names no column of good.csv to forecast; it has day, y, x."),
    (["--target", "z"], "column 'z' is not in good.csv; it has day, y, x."),
    (["--target", "day"], "day"),
    ([*Y, "--time", "when"], "column 'when' is not in good.csv"),
    ([*Y, "--inputs", "w"], "column 'w' is not in good.csv"),
    ([*Y, "--known", "w"], "--known='w' is no input of series 'good'; its inputs are: x."),
    ([*Y, "--known", "y"], "--known='y' is no input"),
    ([*Y, "--date-format", "%d.%m.%Y"], "--date-format='%d.%m.%Y'"),
    ([*Y, "--separator", ";;"], "--separator=';;' must be a single character"),
    ([*Y, "--decimal", "x"], "--decimal"),
    ([*Y, "--decimal", ".", "--thousands", "."], "are the same mark"),
    ([*Y, "--encoding", "utf-9"], "--encoding='utf-9' is unknown"),
    ([*Y, "--models", "gru"], "--models: 'gru' is unknown; choose from rnn"),
    ([*Y, "--models", ","], "--models is empty; choose from rnn"),
    ([*Y, "--arms", "dropuot"], "--arms: 'dropuot' is unknown"),
    ([*Y, "--arms", "locked-dropout", "--models", "patchtst"], "arm 'locked-dropout' exists for rnn and lstm alone"),
    ([*Y, "--lengths", "0"], "--lengths: '0' is not a window length"),
    ([*Y, "--lengths", "1.5"], "--lengths: '1.5' is not a window length"),
    ([*Y, "--lengths", "59"], "too short"),
    ([*Y, "--horizon", "50"], "too short"),
    ([*Y, "--horizon", "0"], "; got '0' (see"),
    ([*Y, "--seeds", "-1"], "; got '-1' (see"),
    ([*Y, "--epochs", "many"], "; got 'many' (see"),
    ([*Y, "--jobs", "0"], "; got '0' (see"),
    ([*Y, "--season", "0"], "; got '0' (see"),
    ([*Y, "--gaps", "guess"], "'error', 'fill', 'ignore'"),
    ([*Y, "--predict", "all"], "'delta', 'level'"),
    ([*Y, "--taget", "y"], "No such option: --taget"),
    ([*Y, "--target"], "'--target' requires an argument"),
    ([*Y, "--out", "good.csv"], "--out: cannot write to good.csv"),
    ([*Y, "--task", "images"], "--task is no option of compare; for images use synaptic-pruning compare-images."),
    ([*Y, "good.csv"], "2 data sets are called 'good'; rename a file or an id."),
    ([*Y, "twin/good.csv"], "2 data sets are called 'good'; rename a file or an id."),
    ([*Y, "stell-energy-mini"], "data set 'stell-energy-mini' is unknown; did you mean 'steel-energy-mini'"),
    ([*Y, "absent.csv"], "absent.csv cannot be opened (No such file or directory); check the path"),
    ([*Y, "."], "."),
]
"""What follows `compare good.csv`, and a part of the answer."""
BY_FILE: dict[str, str] = {
    "empty.csv": "empty.csv is empty; give a CSV file with a header row",
    "header.csv": "header.csv has 0 row(s) below its header",
    "one.csv": "one.csv has 1 row(s) below its header",
    "blank.csv": "target 'y' has no value at all",
    "constant.csv": "target 'y' has the constant value 3",
    "word.csv": "'broken' in row 42",
    "infinite.csv": "row 42",
    "gap.csv": "--gaps='fill'",
    "twice.csv": "2024-01-20",
    "backwards.csv": "sort",
    "nodate.csv": "'soon' in row 22",
    "eithermonth.csv": "--date-format=",
    "semicolons.csv": "--separator=';'",
    "decimals.csv": "--separator=';'",
    "ragged.csv": "row 62 has 2 cell(s) and the header 3",
    "quotes.csv": "row 62",
    "doubled.csv": "column 'y' stands twice",
    "noheader.csv": "its first row, which must name the columns",
    "nul.csv": "NUL character in row 62",
    "japanese.csv": "--encoding='shift_jis'",
    "half.csv.gz": "cannot be opened",
    "no.csv.gz": "cannot be opened",
    "sales.xlsx": "is a spreadsheet; save it as CSV",
    "old.xls": "is a spreadsheet; save it as CSV",
    "damaged.parquet": "cannot be opened",
    "long.csv": "column 'unique_id' is empty in row 62",
}
OTHERS: list[tuple[list[str], str]] = [
    (["compare", "good.csv", *Y], "Missing option '--out'"),
    (["compare", "--out", "out", "--inputs", "x"], "--inputs names columns of a CSV or Parquet file"),
    (["compare", "--out", "out", "--calendar"], "has no dates"),
    (["comapre", "good.csv"], "No such command 'comapre'"),
    (["fit", "--out", "out"], "Missing argument 'DATA'"),
    (["fit", "good.csv", *Y, "--out", "out", "--level", "2"], "--level: 2 must be above 0 and below 1"),
    (["fit", "good.csv", *Y, "--out", "out", "--from", "twin"], "--from: twin holds no results.parquet"),
    (["fit", "good.csv", *Y, "--out", "out", "--lengths", "59"], "too short"),
    (["fit", "sales.xlsx", *Y, "--out", "out"], "is a spreadsheet"),
    (["forecast", "twin", "good.csv"], "give a folder that `fit` wrote"),
    (["forecast", "absent", "good.csv"], "absent"),
    (["forecast", "twin", "good.csv", "--out", "next.xlsx"], "next.xlsx has no known ending"),
    (["datasets", "info", "etth9"], "data set 'etth9' is unknown; did you mean"),
    (["datasets", "fetch"], "name the data sets to fetch"),
    (["datasets", "fetch", "etth9"], "data set 'etth9' is unknown"),
    (["study", "run", "wrong.toml", "--out", "out"], "modells"),
    (["study", "run", "absent.toml", "--out", "out"], "absent.toml"),
    (["study", "report", "absent"], "absent"),
    (["inspect", "good.csv"], "good.csv"),
    (["export", "good.csv"], "good.csv"),
    (["compare-images", "--out", "out", "--data", "minst"], "--data: 'minst' is unknown"),
]
CASES = [(["compare", "good.csv", "--out", "out", *words], fragment) for words, fragment in COMPARE]
CASES += [(["compare", name, *Y, "--out", "out"], fragment) for name, fragment in BY_FILE.items()]
CASES += OTHERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("wrong")
    for name, content in FILES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(content)
    return made


def test_there_are_forty_and_every_bad_file_is_among_them():
    assert len(CASES) >= 40
    assert set(FILES) - {"good.csv", "twin/good.csv", "wrong.toml"} == set(BY_FILE)


@pytest.mark.parametrize(("words", "fragment"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_one_sentence_and_nothing_changed(folder, monkeypatch, words, fragment):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("synaptic_pruning.study.engine.Processes.start", lambda *_: pytest.fail("it trains"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    (said,) = [line for line in lines if not line.startswith("Warning: ")]
    assert fragment in said
    assert said.endswith((".", "?")), said
    assert not any(f" {name}=" in said for name in ("gaps", "separator", "encoding", "decimal", "time", "known"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_study_whose_cluster_is_missing_leaves_no_folder(tmp_path):
    spec = tmp_path / "good.toml"
    spec.write_text('title = "x"\ndatasets = ["co2"]\nmodels = ["rnn"]\narms = ["none"]\nlengths = [8]\nepochs = 1\n')
    out = tmp_path / "new" / "out"
    words = ["study", "run", str(spec), "--out", str(out), "--backend", "ray", "--address", "nowhere"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    (said,) = result.stderr.splitlines()
    assert "Ray" in said
    assert not out.parent.exists()
