"""The comparison on images: from the shell to the report on digits, and every figure against a truth of its own."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from scipy import stats
from typer.testing import CliRunner, Result

from helpers.image_records import a_task, works
from helpers.processes.forked import ForkedProcesses
from synaptic_pruning.cli import app
from synaptic_pruning.study import engine
from synaptic_pruning.study.classification import compare as comparing
from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.classification.cells import ImageCell
from synaptic_pruning.study.classification.compare import compare_images
from synaptic_pruning.study.classification.plan import ImagePlan
from synaptic_pruning.study.classification.results import paired
from synaptic_pruning.study.engine.records import write_record
from synaptic_pruning.study.engine.study_info import About

ABOUT = About("synaptic-pruning compare")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["compare-images", *map(str, words)])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A comparison on digits, as a reader would run it."""
    out = tmp_path_factory.mktemp("digits")
    words = ["--seeds", 2, "--epochs", 3, "--jobs", 2, "--out", out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Processes", ForkedProcesses)
        result = run(*words)
    assert result.exit_code == 0, result.stderr
    return out, words, result.stdout


@pytest.fixture(scope="module")
def table(digits):
    return pd.read_csv(digits[0] / "results.csv")


def test_every_arm_and_seed_is_one_row(table):
    assert list(table["arm"].drop_duplicates()) == ["none", "dropout", "magnitude", "disuse", "random-ramp"]
    assert list(table["seed"]) == [0, 1] * 5
    assert (table["status"] == "ok").all()
    assert (table["data_hash"].str.len() == 64).all()


def test_others_are_brought_to_what_disuse_reached(table):
    alive = table.pivot_table(index="seed", columns="arm", values="alive")
    assert (alive["none"] == 64 * 300 + 300 * 100 + 100 * 10).all()
    assert (alive["disuse"] < alive["none"]).all()
    assert (alive["magnitude"] == alive["disuse"]).all()
    assert (alive["random-ramp"] == alive["disuse"]).all()
    assert alive["disuse"].nunique() == 2  # an outcome, so the two seeds have each its own


def test_accuracies_are_those_of_the_networks_that_were_kept(digits, table):
    """The networks are read and asked with NumPy alone, on images scaled here."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    tested = np.arange(len(bunch.target)) % 5 == 0
    order = torch.randperm(int((~tested).sum()), generator=torch.Generator().manual_seed(0)).numpy()
    seen = bunch.data[~tested][order[:1198]]
    inputs = (bunch.data[tested] - seen.mean(0)) / (seen - seen.mean(0)).std(ddof=1)
    for _, row in table.iterrows():
        weights = load_file(digits[0] / "cells" / f"{row['config_hash']}.safetensors")
        layers = sorted({name.rsplit(".", 1)[0] for name in weights}, key=int)
        values = inputs
        for layer in layers:
            values = values @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
            values = np.maximum(values, 0) if layer != layers[-1] else values
        assert row["accuracy"] == pytest.approx((values.argmax(1) == bunch.target[tested]).mean(), abs=1e-9)
        assert row["alive"] == sum(np.count_nonzero(weights[f"{layer}.weight"]) for layer in layers)


def test_learning_speed_by_hand(digits, table):
    records = {h: json.loads((digits[0] / "cells" / f"{h}.json").read_text()) for h in table["config_hash"]}
    for _, row in table.iterrows():
        dense = table[(table["arm"] == "none") & (table["seed"] == row["seed"])]["config_hash"].item()
        goal = records[dense]["history"][-1]["validation_accuracy"]
        reached = [e["epoch"] for e in records[row["config_hash"]]["history"] if e["validation_accuracy"] >= goal]
        assert row["epochs_to_dense"] == reached[0] if reached else np.isnan(row["epochs_to_dense"])


def test_the_page_says_what_the_table_holds(digits, table):
    out, _, told = digits
    page = (out / "report.html").read_text()
    by_arm = {arm: rows.set_index("seed") for arm, rows in table.groupby("arm")}
    for arm in ("magnitude", "disuse", "random-ramp"):
        for other in ("none", "dropout"):
            pairs = 100 * by_arm[arm]["accuracy"], 100 * by_arm[other]["accuracy"]
            interval = stats.ttest_rel(*pairs).confidence_interval()
            middle, half = (interval.low + interval.high) / 2, (interval.high - interval.low) / 2
            text = f"{middle:+.2f} ± {half:.2f}".replace("-", "−")
            assert f">{text}<" in page
            if arm == "magnitude":
                assert text in told
    for name in ("none", "magnitude"):
        accuracy = by_arm[name]["accuracy"]
        assert f"{100 * accuracy.mean():.2f}\u00a0% ± {100 * accuracy.std():.2f}\u00a0%" in page
    majority = 100 * table["majority"].iloc[0]
    assert 5 < majority < 15
    assert f"{majority:.2f}\u00a0% right" in page
    for layer, size in (("1.weight", 19_200), ("3.weight", 30_000), ("5.weight", 1_000)):
        assert re.search(rf">{layer}</td><td>{size:,}</td><td>{size:,} \(100\u00a0%\)", page)
    assert page.count("<svg") == 1 + 5 + 1  # curves, receptive fields, streaks
    assert "synaptic-pruning compare-images --data digits" in page
    assert f"Report: {out / 'report.html'}" in told


def test_the_page_needs_nothing_but_itself(digits):
    page = (digits[0] / "report.html").read_text()
    assert not re.search(r"https?:|<link|<img|<iframe|@import|\bsrc=", page)
    assert page.count("<script") == 1
    assert "default-src 'none'" in page
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for drawn in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert re.match(r'<svg[^>]* role="img" aria-labelledby="([^"]+)"[^>]*><title id="\1">[^<]{40,}</title>', drawn)


def test_the_same_command_again_trains_nothing(digits):
    out, words, told = digits
    stamps = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    page = (out / "report.html").read_text()
    again = run(*words)
    assert again.stdout == told
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == stamps
    assert (out / "report.html").read_text() == page


def test_a_hash_knows_everything_but_addresses(other_interpreter):
    cell = ImageCell("digits", "0" * 64, "mlp", "random-ramp", 0.5, 0, 3, 64, 1e-3)
    content = json.dumps(cell.to_dict())
    assert "0x" not in content
    assert "random" in cell.to_dict()["rule"]
    code = f"from synaptic_pruning.study.classification.cells import ImageCell; answer = {cell!r}.hash"
    assert other_interpreter.answer(code) == cell.hash
    others = [{"seed": 1}, {"sparsity": 0.6}, {"data_hash": "1" * 64}, {"arm": "magnitude"}, {"epochs": 4}]
    assert len({cell.hash, *(replace(cell, **other).hash for other in others)}) == 6


class Inline:
    """Does a cell's work at once."""

    def __init__(self, work):
        self.work, self.done = work, []

    def room(self, running):
        return not running

    def start(self, cell, data, folder):
        self.done.append(cell)
        write_record(folder, cell, self.work(cell, data))
        return cell.hash

    def wait(self, running, folder):
        return list(running)

    def stop(self, running):
        pass


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr(comparing, "write_report", lambda *_, **__: None)


@pytest.mark.usefixtures("no_report")
def test_matched_arms_wait_for_disuse_and_fall_with_it(tmp_path):
    plan = ImagePlan(("mlp",), ("none", "magnitude", "disuse", "rigl"), (0, 1, 2), 2)
    executor = Inline(works)
    table = compare_images(a_task(), plan, tmp_path, data_dir=None, executor=executor, about=ABOUT)
    matched = {(cell.arm, cell.seed): cell.sparsity for cell in executor.done if ARMS[cell.arm].matched}
    assert matched == {(arm, seed): 0.25 * (seed + 1) for arm in ("magnitude", "rigl") for seed in (0, 1)}
    assert [cell.arm for cell in executor.done][-4:].count("disuse") == 0
    status = table.set_index(["arm", "seed"])["status"]
    assert status["magnitude", 2].startswith("failed: “disuse” of this seed did not end well")
    assert list(table["arm"]) == [arm for arm in plan.arms for _ in range(3)]
    assert sorted(set(paired(table)["seed"])) == [0, 1]


@pytest.mark.usefixtures("no_report")
def test_without_disuse_nine_tenths_go(tmp_path):
    plan = ImagePlan(("mlp",), ("none", "magnitude", "random-ramp"), (0,), 2)
    executor = Inline(works)
    compare_images(a_task(), plan, tmp_path, data_dir=None, executor=executor, about=ABOUT)
    assert {cell.sparsity for cell in executor.done if cell.arm != "none"} == {0.9}
