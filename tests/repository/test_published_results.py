"""Every p-value that docs/results publishes, computed again from the committed table with plain SciPy."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.forecasting.spec import read_spec

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PUBLISHED = {
    "standard": RESULTS / "standard.toml",
    "unseen": RESULTS / "unseen.toml",
    "confirmation": RESULTS / "confirmation.toml",
    "controls-all": RESULTS / "controls-all.toml",
    "controls": RESULTS / "controls.toml",
    "smoke": RESULTS / "smoke.toml",
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


@pytest.fixture(scope="module")
def released():
    """The released protocol's table, and what the page says about it."""
    table = pd.read_parquet(RESULTS / "paper-reduced.parquet")
    text = (ROOT / "docs" / "archive.md").read_text()
    section = text.partition("## The released protocol")[2].partition("\n## ")[0]
    return table, section


def test_the_released_protocol_ran_as_its_spec_says(released):
    table, _ = released
    spec = tomllib.loads((RESULTS / "paper-reduced.toml").read_text())
    assert set(table["status"]) == {"ok"}
    assert set(table["protocol"]) == {"paper"}
    for name, values in (("dataset", "datasets"), ("model", "models"), ("arm", "arms"), ("length", "lengths")):
        assert set(table[name]) == set(spec[values])
    runs = table.groupby(["dataset", "model", "arm", "length"]).size()
    assert len(runs) == 4 * 3 * 4 * 6
    assert set(runs) == {spec["seeds"]}


def test_the_skills_of_the_released_protocol(released):
    table, section = released
    names = {
        "S&P 500": "sp500",
        "Bitcoin": "bitcoin",
        "household power": "household-hourly",
        "air quality": "air-quality",
    }
    skill = table.groupby(["dataset", "arm"])["skill"].mean().unstack()
    for name, dataset in names.items():
        cells = [f"{skill.loc[dataset, arm]:.3f}" for arm in ("none", "dropout", "mc-dropout", "vos2025")]
        assert f"| {name} | {' | '.join(cells)} |".replace("-", "−") in section


def test_the_ranks_of_the_released_protocol(released):
    table, section = released
    worst = best = significant = 0
    for _, part in table.groupby(["dataset", "model"]):
        wide = part.groupby(["length", "arm"])["mae"].mean().unstack().astype(float)
        ranks = wide.rank(axis=1).mean()
        worst += ranks["vos2025"] == ranks.max()
        best += ranks["vos2025"] == ranks.min()
        significant += stats.friedmanchisquare(*(wide[arm] for arm in wide)).pvalue < 0.05
    said = f"the worst of four in {worst} of 12 tests and the best in {best}; {significant} of the 12 have p < 0.05"
    assert said in " ".join(section.split())


def test_the_costs_of_the_released_protocol(released):
    table, section = released
    run = ["dataset", "model", "length", "seed"]
    for column in ("train_seconds", "peak_memory_mb"):
        wide = table.pivot(index=run, columns="arm", values=column)
        ratios = wide.div(wide["none"], axis=0).groupby("length").median()
        for arm in ("dropout", "vos2025"):
            said = " | ".join(f"{ratio:.2f}" for ratio in ratios[arm])
            assert f"| {arm} | {said} |" in section.partition(f"| {column} ")[2].partition("\n\n")[0]


def test_the_default_alone_is_made_of_trainings_of_the_studies():
    trained = pd.read_parquet(RESULTS / "default.parquet")
    assert not trained.duplicated(["study", "dataset", "model", "sparsity", "seed"]).any()
    for name, own in trained.groupby("study"):
        runs = pd.read_parquet(RESULTS / f"{name}.parquet")
        runs = runs[runs["arm"] == "synaptic"]
        chosen = runs.assign(sparsity=runs["setting"].str.removeprefix("sparsity ").astype(float))
        both = chosen.merge(own, on=["dataset", "model", "sparsity", "seed"], validate="one_to_one")
        assert len(both) == len(chosen) == len(own) / 2
        assert (both["mae_x"] == both["mae_y"]).all()


def test_the_recipes_page_shows_what_its_command_prints():
    script = runpy.run_path(str(RESULTS.parents[1] / "experiments" / "recipes.py"))
    page = (RESULTS.parent / "recipe.md").read_text()
    runs = pd.read_parquet(RESULTS / "recipes.parquet")
    for _, group in runs.groupby(["model", "steps", "seed"], observed=True):
        assert f"{script['table'](group)}\n" in page


class Declared(NamedTuple):
    """A study that declared hypotheses: its table, what its spec says, and what the study said."""

    name: str
    table: pd.DataFrame
    spec: dict[str, Any]
    published: dict[str, Any]


@pytest.fixture(scope="module", params=["primary", "inputs"])
def declared(request: pytest.FixtureRequest) -> Declared:
    name = request.param
    spec = tomllib.loads((RESULTS / f"{name}.toml").read_text())
    published = json.loads((RESULTS / f"{name}.json").read_text())
    return Declared(name, pd.read_parquet(RESULTS / f"{name}.parquet"), spec, published)


def test_hypotheses(declared: Declared):
    _, table, spec, published = declared
    runs = table[(table["model"] != "") & (table["status"] == "ok")]
    p_values, differences = [], []
    for hypothesis in spec["hypotheses"]:
        part = runs[runs["regime"] == hypothesis["regime"]]
        logs = []
        for _, one in part.groupby("dataset"):
            means = one.groupby("arm")[["mae", "validation_mae"]].mean().astype(float)
            rival = means.loc[hypothesis["against"], "validation_mae"].idxmin()
            logs.append(np.log(means.loc[hypothesis["arm"], "mae"] / means.loc[rival, "mae"]))
        assert len(logs) == len(spec["files"])
        margin = hypothesis.get("margin", 0.0)
        shifted = np.array(logs) - np.log1p(margin)
        p_values.append(stats.wilcoxon(shifted, alternative="less" if margin else "two-sided").pvalue)
        pairs = [(a + b) / 2 for i, a in enumerate(logs) for b in logs[i:]]  # Hodges and Lehmann by their definition
        differences.append(np.expm1(np.median(pairs)))
    for one, p, corrected, difference in zip(
        published["hypotheses"], p_values, holm(p_values), differences, strict=True
    ):
        assert one["p_value"] == pytest.approx(p, rel=1e-6)
        assert one["p_holm"] == pytest.approx(corrected, rel=1e-6)
        assert one["effect"]["estimate"] == pytest.approx(difference, rel=1e-6)
        right_way = one["hypothesis"]["margin"] > 0 or difference < 0
        assert one["holds"] == (corrected < 0.05 and right_way)


def test_a_declared_study_ran_as_its_spec_says(declared: Declared):
    _, table, spec, _ = declared
    runs = table[table["model"] != ""]
    assert set(runs["model"]) == set(spec["models"])
    assert set(runs["arm"]) == set(spec["arms"])
    assert runs.groupby(["dataset", "regime", "arm"]).size().eq(spec["seeds"]).all()
    assert runs["dataset"].nunique() == len(spec["files"])
    assert len(runs) == len(spec["files"]) * len(spec["regimes"]) * len(spec["arms"]) * spec["seeds"]


def test_errors_of_a_declared_study_follow_from_its_forecasts(declared: Declared):
    name, table, _, _ = declared
    found = pd.read_parquet(RESULTS / f"{name}-forecasts.parquet")
    keys = ["regime", "dataset", "arm", "seed"]
    errors = found[found["arm"] != "truth"].assign(mae=lambda runs: runs["value"].abs())
    mean = errors.groupby(keys, observed=True)["mae"].mean()
    runs = table[table["model"] != ""].set_index(keys)["mae"]
    mean.index = mean.index.set_levels([level.astype(runs.index.dtypes[level.name]) for level in mean.index.levels])
    both = pd.concat([mean, runs], axis=1, keys=["again", "published"])
    assert len(both) == len(runs) == both.notna().all(axis=1).sum()
    np.testing.assert_allclose(both["again"], both["published"], rtol=2e-4)
    sizes = found.groupby(keys, observed=True)["value"].size()
    truth = sizes.xs("truth", level="arm").droplevel("seed")
    each = sizes.drop("truth", level="arm").groupby(["regime", "dataset"], observed=True).agg(["min", "max"])
    assert each["min"].eq(truth).all()
    assert each["max"].eq(truth).all()


def test_the_page_of_a_declared_study_shows_what_its_command_prints(declared: Declared):
    script = runpy.run_path(str(ROOT / "experiments" / "primary.py"))
    printed = script["tables"](declared.table, read_spec(RESULTS / f"{declared.name}.toml"))
    assert f"{printed}\n" in (RESULTS / f"{declared.name}.md").read_text()


def test_the_page_on_the_sources_data_shows_what_its_command_prints():
    script = runpy.run_path(str(ROOT / "experiments" / "source.py"))
    runs, page = pd.read_parquet(RESULTS / "source.parquet"), (RESULTS / "source.md").read_text()
    cells = script["cells"](runs)
    for lines in (script["against"](cells), script["by_length"](cells), script["skills"](runs)):
        assert "\n".join(["", *lines, ""]) in page
    networks = runs[runs["model"] != ""]
    assert networks.groupby(["dataset", "length", "arm"]).size().eq(3).all()
    means = networks.groupby(["dataset", "length", "arm"])["mae"].mean().unstack("arm").astype(float)
    for arm, better in (("vos2025", 1), ("synaptic", 20)):
        assert (means[arm] < means["none"]).sum() == better
        assert f"{better if better > 12 else 24 - better} of 24" in page


def test_the_page_on_images_shows_what_its_commands_print():
    script, page = runpy.run_path(str(ROOT / "experiments" / "rules.py")), (RESULTS / "images.md").read_text()
    named = re.findall(r"rules\.py .*--out docs/results/([\w-]+\.json)", page)
    written = {name: json.loads((RESULTS / name).read_text()) for name in named if (RESULTS / name).exists()}
    # Networks of other widths are shown together, in a table of their own.
    tables = {name: script["table"](found["results"]) for name, found in written.items() if "width" not in name}
    assert len(tables) >= 7
    for name, table in tables.items():
        assert f"{table}\n" in page, name
