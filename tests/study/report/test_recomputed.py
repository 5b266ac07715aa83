"""What the report prints and the files of a study hold, recomputed from its table alone with plain NumPy and SciPy."""

import json
import math
import re
import tomllib
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaptic_pruning.study.engine import About, write_table
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report import Dataset, declared, render, statistics
from synaptic_pruning.study.forecasting.results import COLUMNS
from synaptic_pruning.study.statistics import Hypothesis
from synaptic_pruning.tasks.forecasting import find_entry

PUBLISHED = Path(__file__).parents[3] / "docs" / "results"
ARMS = ("none", "dropout", "synaptic")
PLAN = Plan(
    models=("rnn", "lstm"),
    arms=ARMS,
    lengths=(7,),
    horizons=(1,),
    seeds=2,
    epochs=3,
    regimes=("univariate", "features"),
    hypotheses=(
        Hypothesis("beats both", "features", "synaptic", ("none", "dropout")),
        Hypothesis("not worse than none", "univariate", "synaptic", ("none",), margin=0.01),
    ),
)
NAMES = [f"d{number}" for number in range(10)]
SOURCES = dict(zip(NAMES, ["twins", "twins", *NAMES[2:]], strict=True))  # nine sources


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study and its page, of results that the seed makes."""
    rng, rows = np.random.default_rng(3), []
    centre = {"univariate": {"none": 1.0, "dropout": 0.97, "synaptic": 0.96}}
    centre["features"] = {"none": 1.0, "dropout": 1.01, "synaptic": 0.95}
    for (place, name), regime, model, arm, seed in product(enumerate(NAMES), PLAN.regimes, PLAN.models, ARMS, (0, 1)):
        mae = 10.0 ** (place % 4) * centre[regime][arm] * math.exp(rng.normal(0, 0.05))
        row = {"dataset": name, "source": SOURCES[name], "regime": regime, "model": model, "arm": arm, "seed": seed}
        row |= {"mae": mae, "validation_mae": mae * math.exp(rng.normal(0, 0.05)), "skill": 0.2, "option": ""}
        rows.append(row | {"best_epoch": 3 if place == 7 else 1})
    table = pd.DataFrame(rows).assign(horizon=1, length=7, status="ok", sparsity=0.5, prunable=10, alive=5)
    table = table.assign(most_epochs=3, train_seconds=1.0, predict_seconds=1.0, peak_memory_mb=1.0, rmse=1.0)
    table = table.reindex(columns=COLUMNS)
    folder = tmp_path_factory.mktemp("study")
    about = About("", blocks=SOURCES)
    outcomes = declared(table, PLAN.hypotheses, about)
    write_table(table, folder)
    (folder / "statistics.json").write_text(json.dumps(statistics(table, about, outcomes)))
    record = {"cell": {"arms": [{"name": arm} for arm in ARMS]}}
    with pytest.MonkeyPatch.context() as patch:
        for draw in ("draw_panels", "draw_regime"):
            name = f"synaptic_pruning.study.forecasting.report.page.{draw}"
            patch.setattr(name, lambda *_: defaultdict(list))
        patch.setattr("synaptic_pruning.study.forecasting.report.page.network_files", lambda _: {})
        datasets = [Dataset(name, name, 40, 1, 12, "0" * 64) for name in NAMES]
        page = render(table, [record], plan=PLAN, datasets=datasets, about=about, outcomes=outcomes)
    return folder, page


@pytest.fixture(scope="module")
def published(study):
    return pd.read_parquet(study[0] / "results.parquet")


@pytest.fixture(scope="module")
def held(study):
    return json.loads((study[0] / "statistics.json").read_text())


def logs_of(table, arm, other, source):
    """Logs of the ratio of two arms, one a source: a mean over its cases of logs of means over seeds."""
    case = ["dataset", "model", "length", "horizon"]
    mean = np.log(table.groupby([*case, "arm"])["mae"].mean().unstack().astype(float))
    difference = mean[arm] - mean[other]
    return difference.groupby([source[name] for name in difference.index.get_level_values("dataset")]).mean().to_numpy()


def holm(p_values):
    """Holm's correction, step by step as he wrote it."""
    after, largest = {}, 0.0
    for rank, (p, place) in enumerate(sorted((p, place) for place, p in enumerate(p_values))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        after[place] = largest
    return [after[place] for place in range(len(p_values))]


def hodges_lehmann(logs):
    """The estimate, and the shifts that the exact signed-rank test does not refuse, from all signs of few ranks."""
    n = len(logs)
    walsh = sorted((logs[i] + logs[j]) / 2 for i in range(n) for j in range(i, n))
    sums = np.array(list(product((0, 1), repeat=n))) @ np.arange(1, n + 1)
    refused = max(k for k in range(n * n) if (sums < k).mean() <= 0.025)
    return np.median(walsh), walsh[refused - 1], walsh[-refused]


def bootstrap_of_median(values):
    """The ends that the median of a resample exceeds with 97.5 % and 2.5 %, exactly; the number of values is odd."""
    n = len(values)
    below = [stats.binom.sf(n // 2, n, j / n) for j in range(1, n + 1)]  # P(median of a resample ≤ the j-th value)
    return [sorted(values)[next(j for j in range(n) if below[j] >= level)] for level in (0.025, 0.975)]


def rows_of(page, label):
    """The cells of every table of that label, a table at a time, as a reader sees them."""
    tables = re.findall(rf'aria-label="{label}[^"]*">(.*?)</table>', page, re.DOTALL)
    bodies = [re.search(r"<tbody>(.*?)</tbody>", table, re.DOTALL).group(1) for table in tables]
    return [
        [
            [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        ]
        for body in bodies
    ]


def percent(change):
    return f"{100 * change:+.1f}\u00a0%".replace("-", "−") if abs(change) >= 0.0005 else "0.0\u00a0%"


def three(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def test_wilcoxon_holm_and_the_interval_of_every_pair(study, published, held):
    printed = rows_of(study[1], "Pairwise comparisons of synaptic")
    assert len(printed) == len(held["judged"]) == 2
    for regime, found, rows in zip(PLAN.regimes, held["judged"], printed, strict=True):
        of_regime = published[published["regime"] == regime]
        logs = {other: logs_of(of_regime, "synaptic", other, SOURCES) for other in ("none", "dropout")}
        p = [stats.wilcoxon(one).pvalue for one in logs.values()]
        assert (found["regime"], found["blocks"], found["datasets"]) == (regime, 9, 10)
        for (other, one), alone, corrected, row in zip(logs.items(), p, holm(p), rows, strict=True):
            pair, changes = found["pairs"][other], np.exp(one) - 1
            assert pair["p_value"] == pytest.approx(alone)
            assert pair["p_holm"] == pytest.approx(corrected)
            assert pair["difference"] == pytest.approx(np.median(changes))
            assert [pair["low"], pair["high"]] == pytest.approx(bootstrap_of_median(changes))
            won, lost = (one < 0).sum(), (one > 0).sum()
            assert [pair["wins"], pair["losses"]] == [won, lost]
            low, high = (percent(end) for end in bootstrap_of_median(changes))
            told = [percent(np.median(changes)), f"{low} … {high}", str(won), "0", str(lost)]
            assert row[:-1] == [other, *told, three(alone), three(corrected)]
        margin = stats.wilcoxon(logs["none"] - math.log(1.005), alternative="less").pvalue
        assert found["not_worse"]["p_value"] == pytest.approx(margin)


def test_hodges_lehmann_and_the_sign_test(study, published, held):
    (printed,) = rows_of(study[1], "Sizes of the differences")
    cases = list(product(PLAN.regimes, ("none", "dropout")))
    for (regime, other), found, row in zip(cases, held["effects"], printed, strict=True):
        logs = logs_of(published[published["regime"] == regime], "synaptic", other, SOURCES)
        estimate, low, high = np.exp(hodges_lehmann(logs)) - 1
        sign = stats.binomtest(int((logs < 0).sum()), len(logs)).pvalue
        assert (found["regime"], found["other"]) == (regime, other)
        assert [found[name] for name in ("estimate", "low", "high")] == pytest.approx([estimate, low, high])
        assert found["sign_p"] == pytest.approx(sign)
        assert found["mean"] == pytest.approx(np.exp(logs.mean()) - 1)
        assert row[:6] == [
            regime,
            other,
            percent(estimate),
            f"{percent(low)} to {percent(high)}",
            percent(np.exp(logs.mean()) - 1),
            percent(np.median(np.exp(logs)) - 1),
        ]
        assert row[7] == three(sign)


def test_declared_hypotheses(study, published, held):
    features = published[published["regime"] == "features"]
    case = ["dataset", "model"]
    validation = features.groupby([*case, "arm"])["validation_mae"].mean().unstack()
    test = features.groupby([*case, "arm"])["mae"].mean().unstack()
    taken = np.where(validation["none"] <= validation["dropout"], test["none"], test["dropout"])
    logs = np.log(test["synaptic"] / taken)
    first = logs.groupby([SOURCES[name] for name in logs.index.get_level_values("dataset")]).mean().to_numpy()
    second = logs_of(published[published["regime"] == "univariate"], "synaptic", "none", SOURCES)
    p = [stats.wilcoxon(first).pvalue, stats.wilcoxon(second - math.log(1.01), alternative="less").pvalue]
    for found, logs, alone, corrected in zip(held["hypotheses"], (first, second), p, holm(p), strict=True):
        estimate, low, high = np.exp(hodges_lehmann(logs)) - 1
        assert [found["p_value"], found["p_holm"]] == pytest.approx([alone, corrected])
        effect = [found["effect"][name] for name in ("estimate", "low", "high")]
        assert effect == pytest.approx([estimate, low, high])
        told = f"is {percent(estimate)} ({percent(low)} to {percent(high)}) by Hodges and Lehmann"
        assert told in study[1]
        assert ("p < 0.001" if corrected < 0.001 else f"p = {corrected:.2g}") in study[1]


def test_friedman_and_iman_davenport(published, held):
    for found in held["friedman"]:
        table = published[published["regime"] == found["regime"]]
        if found["name"] != "all models":
            table = table[table["model"] == found["name"]]
        columns = [logs_of(table, arm, "none", SOURCES) for arm in ARMS]
        expected = stats.friedmanchisquare(*columns)
        f = 8 * expected.statistic / (9 * 2 - expected.statistic)
        test = found["test"]
        assert [test["statistic"], test["p_value"]] == pytest.approx([expected.statistic, expected.pvalue])
        assert test["f_p_value"] == pytest.approx(stats.f.sf(f, 2, 16))
    assert len(held["friedman"]) == 6


def test_runs_that_are_not_trained_out(study, published):
    (printed,) = rows_of(study[1], "Trained out")
    late = published["best_epoch"] > 0.9 * published["most_epochs"]
    assert printed[0][:2] == ["all arms", f"{100 * late.mean():.0f} %"]
    assert [row[2] for row in printed] == ["d7 (univariate); d7 (features)"] * 4


def test_the_published_standard_study():
    table = pd.read_parquet(PUBLISHED / "standard.parquet")
    held = json.loads((PUBLISHED / "standard.json").read_text())
    development = tomllib.loads((PUBLISHED / "standard.toml").read_text())["development"]
    source = {name: find_entry(name).block for name in table["dataset"].unique()}
    known = table["dataset"].isin(development)
    parts = {"development": table[known], "confirmation": table[~known], "all data sets": table}
    assert (table["status"] == "ok").all()
    for found in held["judged"]:
        logs = {other: logs_of(parts[found["name"]], found["arm"], other, source) for other in found["pairs"]}
        p = [stats.wilcoxon(one).pvalue for one in logs.values()]
        for (other, one), alone, corrected in zip(logs.items(), p, holm(p), strict=True):
            pair = found["pairs"][other]
            assert [pair["p_value"], pair["p_holm"]] == pytest.approx([alone, corrected])
            assert pair["difference"] == pytest.approx(np.median(np.exp(one) - 1))
            assert (pair["wins"], pair["losses"]) == ((one < 0).sum(), (one > 0).sum())
    assert len(held["judged"]) == 6
