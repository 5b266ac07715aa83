"""Damaged files end in one sentence and exit code 2, or are read as pandas reads them; never in a traceback."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from helpers.sources.damaged_files import KINDS, Damaged, damaged
from synaptic_pruning.cli import app
from synaptic_pruning.tasks.forecasting import DataError, read_csv

READ = "too short"  # what follows the reading is refused: the windows are longer than any file
WORDS = ["--target", "y", "--gaps", "ignore", "--models", "rnn", "--lengths", "9000000"]


def run(path: Path, options: dict[str, str]) -> str:
    """Return the sentence with which the command ends before any training."""
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    result = CliRunner().invoke(app, ["compare", str(path), "--out", str(path.parent / "out"), *WORDS, *given])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert not (path.parent / "out" / "cells").exists()
    sentence = result.stderr.removesuffix("\n")
    assert re.fullmatch(r"[^\r\n]{10,600}[.?]", sentence), sentence
    assert sentence.isprintable(), sentence
    return sentence


def unpacked(file: Damaged) -> bytes:
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            return archive.read(archive.namelist()[0])
    openers = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
    return openers.get(Path(file.name).suffix, bytes)(file.content)


def by_pandas(file: Damaged) -> list[float]:
    """The target as pandas reads it when it is told everything."""
    content = unpacked(file)
    encoding = "utf-16" if content.startswith(b"\xff\xfe") else "utf-8-sig" if content[:1] == b"\xef" else "latin-1"
    separator = file.options.get("separator", ",")
    if encoding != "utf-16":  # pandas refuses rows with too many empty cells at their end
        content = re.sub(separator.encode() + rb"+(?=[\r\n]|$)", b"", content)
    frame = pd.read_csv(
        io.BytesIO(content),
        sep=separator,
        decimal=file.options.get("decimal", "."),
        thousands=file.options.get("thousands"),
        encoding=encoding,
        encoding_errors="replace",
        skip_blank_lines=True,
        index_col=False,
        low_memory=False,
    )
    frame = frame.dropna(how="all")
    frame.columns = [name.strip() for name in frame.columns]
    return frame["y"].astype(float).tolist()


def check(seed: int, folder: Path) -> str:
    """Run one file, and return what became of it."""
    file = damaged(seed)
    path = folder / file.name
    path.write_bytes(file.content)
    sentence = run(path, file.options)
    if READ not in sentence:
        return "refused"
    found = [one.values[:, 0] for one in read_csv(path, "y", gaps="ignore", **file.options)]
    np.testing.assert_allclose(np.sort(np.concatenate(found)), np.sort(by_pandas(file)), rtol=1e-14)
    return "read"


def test_every_kind_of_damage_ends_in_one_sentence_or_a_correct_reading(tmp_path):
    became = [check(seed, tmp_path) for seed in range(2 * len(KINDS))]
    assert became.count("read") > 6  # some damage is harmless
    assert became.count("refused") > 30


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_five_hundred_damaged_files(tmp_path, part):
    became = [check(seed, tmp_path) for seed in range(1000 + 100 * part, 1100 + 100 * part)]
    assert became.count("read") > 10
    assert became.count("refused") > 40


def test_what_is_no_file_is_refused(tmp_path):
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "cannot be opened (Is a directory)" in run(folder, {})
    assert "cannot be opened (No such file or directory)" in run(tmp_path / "absent.csv", {})


def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("y\n1\n2\n")
    path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:  # who may read everything
            tmp_path.parent.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"cannot be opened \(Permission denied\)"):
            read_csv(path, "y")
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.slow
def test_memory_stays_below_four_times_the_file(tmp_path):
    """In a new interpreter, of which every file gets a fork: what it grows by is the file's."""
    script = Path(__file__).parents[1] / "helpers" / "processes" / "memory_of_reading.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script, tmp_path, "1000", "1500"], env=environment, capture_output=True, text=True, check=True
    )
    grown = json.loads(done.stdout)
    assert len(grown) == 500
    # Beside the file there is a block of rows as Python strings, and what pandas loads when it is first used.
    fixed = 48e6
    assert not [one for one in grown if one["grown"] > 4 * one["size"] + fixed]
