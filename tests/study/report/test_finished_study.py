"""The page of a study that really ran: what it says to do next works, and what it says of ridge is in its table."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synaptic_pruning.cli import app
from synaptic_pruning.study.forecasting import read_forecasts

pytestmark = pytest.mark.slow
SPEC = """
title = "Small"
datasets = ["co2", "elnino"]
rows = 300
regimes = ["univariate", "features"]
models = ["mlp"]
arms = ["none", "synaptic"]
lengths = [8]
horizons = [4]
seeds = 1
steps = 20
[grid]
options = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    (out / "small.toml").write_text(SPEC)
    result = CliRunner().invoke(app, ["study", "run", str(out / "small.toml"), "--out", str(out), "--jobs", "2"])
    assert result.exit_code == 0, result.output
    return out


def test_the_code_on_the_page_loads_the_network_and_forecasts_as_it_did(folder, monkeypatch, capsys):
    page = (folder / "report.html").read_text()
    code = html.unescape(re.search(r'<code id="load">(.*?)</code>', page, re.DOTALL).group(1))
    monkeypatch.chdir(folder)
    found = {}
    exec(code, found)
    assert "[[" in capsys.readouterr().out
    forecast = found["task"].to_units(found["predict"](found["model"], found["task"].test), found["task"].test)
    network = (folder / re.search(r'safe_open\("([^"]+)"', code).group(1)).read_bytes()
    (same,) = (path for path in (folder / "cells").glob("*.safetensors") if path.read_bytes() == network)
    np.testing.assert_allclose(forecast, read_forecasts(folder / "cells", same.stem)["test 0"], rtol=1e-6)
    shown = CliRunner().invoke(app, re.search(r"synaptic-pruning (inspect \S+)", page).group(1).split())
    assert shown.exit_code == 0, shown.output
    networks = {path.stem for path in (folder / "networks").glob("*.safetensors")}
    assert {"co2-mlp-synaptic", "elnino-mlp-synaptic"} <= networks  # the best pruned ones, best of all or not
    written = CliRunner().invoke(app, ["export", "."])
    assert written.exit_code == 0, written.output
    packed = (folder / "networks").glob("*.packed.safetensors")
    assert {path.name.removesuffix(".packed.safetensors") for path in packed} == networks


def test_where_every_network_loses_to_ridge_is_in_the_table(folder):
    table = pd.read_parquet(folder / "results.parquet")
    networks = table[table["model"] != ""].groupby(["dataset", "regime"])["mae"].min()
    ridge = table[table["arm"] == "ridge"].groupby(["dataset", "regime"])["mae"].mean()
    lost = [f"{dataset} ({regime})" for dataset, regime in ridge.index[ridge < networks]]
    assert lost, "twenty steps are too few to beat ridge"
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", "", (folder / "report.html").read_text())).split())
    assert f"Every network loses to ridge regression on the same inputs, on {len(lost)} of 4 cases" in text
    late = (table["best_epoch"] > 0.9 * table["most_epochs"])[table["model"] != ""]
    assert re.search(rf"all arms ?{100 * late.mean():.0f} %", text)
