"""Every p-value that docs/results publishes, computed again from the committed table with plain SciPy."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PRESETS = ROOT / "src" / "synaptic_pruning" / "study" / "presets"
PUBLISHED = {
    "standard": PRESETS / "standard.toml",
    "controls": RESULTS / "controls.toml",
    "smoke": PRESETS / "smoke.toml",
}


def holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


@pytest.fixture(scope="module", params=PUBLISHED)
def study(request):
    table = pd.read_parquet(RESULTS / f"{request.param}.parquet")
    table = table[~table["arm"].isin(("identical", "broken"))]  # they test the study, not each other
    published = json.loads((RESULTS / f"{request.param}.json").read_text())
    return table, published, tomllib.loads(PUBLISHED[request.param].read_text())


def values(table: pd.DataFrame) -> pd.DataFrame:
    """One row a data set (each is a block of its own), one column an arm: geometric mean over models."""
    table = table[table["status"] == "ok"]
    arms = table["arm"].nunique()
    table = table.groupby(["dataset", "model", "length", "seed"]).filter(lambda runs: runs["arm"].nunique() == arms)
    means = table.groupby(["dataset", "model", "length", "arm"])["mae"].mean()
    return np.exp(np.log(means.astype(float)).groupby(["dataset", "arm"]).mean()).unstack("arm")


def test_every_published_p_value(study):
    table, published, spec = study
    development = set(spec.get("development", ()))
    assert published["judged"]
    for part in published["judged"]:
        wanted = {
            "development": table["dataset"].isin(development),
            "confirmation": ~table["dataset"].isin(development),
            "all data sets": table["dataset"].notna(),
        }[part["name"]]
        wide = values(table[wanted])
        assert part["blocks"] == len(wide)
        logs = {other: np.log(wide[part["arm"]] / wide[other]) for other in part["pairs"]}
        p_values = [stats.wilcoxon(log).pvalue for log in logs.values()]
        for (other, pair), p, corrected in zip(part["pairs"].items(), p_values, holm(p_values), strict=True):
            assert pair["p_value"] == pytest.approx(p, rel=1e-6)
            assert pair["p_holm"] == pytest.approx(corrected, rel=1e-6)
            assert pair["difference"] == pytest.approx(np.median(np.exp(logs[other]) - 1), rel=1e-6)
            assert pair["wins"] == int((logs[other] < 0).sum())
        one_sided = stats.wilcoxon(logs["none"] - np.log(1.005), alternative="less").pvalue
        assert part["not_worse"]["margin"] == 0.005
        assert part["not_worse"]["p_value"] == pytest.approx(one_sided, rel=1e-6)


def test_friedman(study):
    table, published, _ = study
    for row in published["friedman"]:
        part = table if row["name"] == "all models" else table[table["model"] == row["name"]]
        wide = values(part)
        assert len(wide.columns) == part["arm"].nunique()
        test = stats.friedmanchisquare(*(wide[arm] for arm in wide))
        assert row["test"]["statistic"] == pytest.approx(test.statistic, rel=1e-6)
        assert row["test"]["p_value"] == pytest.approx(test.pvalue, rel=1e-6)
        assert row["ranks"] == pytest.approx(wide.rank(axis=1).mean().to_dict())
