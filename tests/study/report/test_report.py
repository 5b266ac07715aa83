"""The report, its figures and the tables, from records whose content is known."""

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from torch import tensor

from helpers.planned import planned
from synaptic_pruning.study.engine import About, write_table
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report import Dataset, render
from synaptic_pruning.study.forecasting.results import COLUMNS, best_records, keep_best_networks, to_table
from synaptic_pruning.study.plots import training
from synaptic_pruning.study.statistics import PAPER_NOTE
from synaptic_pruning.tasks.forecasting import Series

ABOUT = About("synaptic-pruning compare --out x")
PROMISED = ["dataset", "source", "domain", "regime", "model", "horizon", "arm", "option", "learning_rate", "seed"]
PROMISED += ["mae", "rmse", "validation_mae", "skill", "sparsity", "alive", "epochs", "best_epoch", "status"]
EVIL = "<script>alert('x')</script> & $a$"
PLAN = Plan(
    models=("rnn", "lstm"),
    arms=("none", "dropout", "mc-dropout", "synaptic"),
    lengths=(3, 5),
    horizons=(1,),
    seeds=2,
    epochs=4,
)


def series(name: str) -> Series:
    return Series(name, name, (name,), np.arange(40), np.sin(np.arange(40.0))[:, None], season=12)


def make_records(names, plan=PLAN):
    """Records as the runner returns them, with numbers drawn by a fixed seed."""
    rng = np.random.default_rng(0)
    records = []
    for cell in planned(plan, [series(name) for name in names]):
        sparsity = 0.9 if cell.option.prunes else 0.0
        names_here = [name for name in plan.arms if cell.option in plan.options(name)]
        errors = rng.uniform(0.5, 1.0, 4)
        records.append(
            {
                "cell": {**cell.to_dict(), "arms": [{"name": name} for name in names_here]},
                "option": cell.option.text,
                "hash": cell.hash,
                "status": "ok",
                "versions": {"python": "3", "synaptic_pruning": "0", "torch": "2"},
                "train_seconds": rng.uniform(1, 2),
                "best_epoch": int(np.argmin(errors)) + 1,
                "most_epochs": 4,
                "history": [
                    {
                        "epoch": n + 1,
                        "train_loss": 1.0,
                        "validation_mae": e,
                        "sparsity": sparsity * n / 3,
                        "seconds": 0.1,
                    }
                    for n, e in enumerate(errors)
                ],
                "layers": {"w": [sparsity] * 4} if sparsity else {},
                "prunable": 1000,
                "alive": round(1000 * (1 - sparsity)),
                "sparsity": sparsity,
                "peak_memory_mb": 300.0,
                "arms": {
                    name: {
                        "mae": mae,
                        "rmse": mae,
                        "mase": None,
                        "skill": 1 - mae,
                        "predict_seconds": 0.01,
                        "validation_mae": min(errors),
                        "validation_rmse": min(errors),
                    }
                    for name in names_here
                    for mae in [rng.uniform(0.5, 1.2)]
                },
                "baselines": {
                    n: {"mae": 1.0, "rmse": 1.0, "mase": 1.0, "skill": 0.0} for n in ("persistence", "seasonal naive")
                },
                "tail": {
                    "truth": [None, *rng.normal(size=9)],
                    "forecasts": {name: rng.normal(size=10).tolist() for name in names_here},
                },
            }
        )
    return records


def page(records, names, plan=PLAN, about=ABOUT, reading=""):
    datasets = [Dataset(name, name, 40, 1, 12, "0" * 64, reading) for name in names]
    return render(to_table(records, {}, {}), records, plan=plan, datasets=datasets, about=about)


class Page(HTMLParser):
    """Collects what the checks ask for, and checks that tags nest."""

    VOID = frozenset({"meta", "br", "path", "use", "rect", "circle"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.ids, self.text, self.svgs = [], [], [], "", []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "svg":
            self.svgs.append({"attrs": dict(attrs), "title": ""})
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "title" and "svg" in self.stack:
            self.svgs[-1]["title"] += data
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def names():
    return ["co2", EVIL]


@pytest.fixture(scope="module")
def html(names):
    return page(make_records(names), names)


def test_nothing_is_loaded_from_anywhere_and_only_its_own_script_may_run(html):
    assert not re.search(r"https?:|src=(?!data:)|@import|url\((?!#)|fetch|XMLHttp|WebSocket", html)
    parsed = Page(html)
    assert not {tag for tag, _ in parsed.tags} & {"link", "img", "iframe", "object"}
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_text_from_data_is_escaped_and_shown_as_it_is(html):
    parsed = Page(html)
    assert EVIL in parsed.text
    assert html.count("<script") == 1


def test_every_picture_has_a_title_and_every_id_is_used_once(html):
    parsed = Page(html)
    # every two arms, critical difference, ranks, heat map; by data set against two
    # training, layers, weights; forecasts; costs, also by window
    assert len(parsed.svgs) == 4 + 2 + 2 + 1 + 2 + 2 + 2 + 3 + 3
    for svg in parsed.svgs:
        assert svg["attrs"]["role"] == "img"
        assert svg["attrs"]["aria-labelledby"] in parsed.ids
        assert len(svg["title"]) > 30
    assert len(parsed.ids) == len(set(parsed.ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    assert targets
    assert set(targets) <= set(parsed.ids)


def test_it_says_what_was_asked(html, names):
    text = " ".join(Page(html).text.split())
    for needed in (
        "no outcome can be significant with N = 2 data sets",
        "cannot be: N = 2 data sets",
        "Where synaptic pruning lost",
        "Friedman",
        "synaptic-pruning compare --out x",
        "64 runs from 48 trainings",
        "AdamW, learning rate 0.001 (rnn), 0.001 (lstm), schedule constant",
    ):
        assert needed in text


@pytest.mark.usefixtures("undrawn")
def test_a_study_says_where_it_came_from(names):
    about = About("synaptic-pruning study run x", "A <b>study</b>", {EVIL: "co2"}, {}, ("co2",), f"title = '{EVIL}'")
    html = page(make_records(names), names, about=about)
    text = " ".join(Page(html).text.split())
    assert "A <b>study</b>" in text
    assert f"title = '{EVIL}'" in text
    assert html.count("<script") == 1
    for part in ("development 1 data set", "confirmation 1 data set", "all data sets 2 data sets, 1 source"):
        assert part in text
    assert "at most 0.5 % worse than “none”?" in text


def test_regimes_are_told_apart(undraw):
    undraw("draw_panels")
    names, regimes = ["co2", "tides"], ("univariate", "multivariate")
    plan = replace(PLAN, models=("rnn",), lengths=(3,), regimes=regimes)
    records = make_records(names, plan)
    parsed = Page(page(records, names, plan))
    table = to_table(records, {}, {})
    for regime in regimes:
        own = table[table["regime"] == regime]
        means = own.pivot_table(index="dataset", columns="arm", values="mae")
        (heat,) = (svg for svg in parsed.svgs if svg["attrs"]["aria-labelledby"] == f"heat-map-{regime}-title")
        ratios = means[["dropout", "mc-dropout", "synaptic"]].div(means["none"], axis=0)
        assert f"in the median {np.median(ratios):.3f}." in heat["title"]
        (ranks,) = (svg for svg in parsed.svgs if svg["attrs"]["aria-labelledby"] == f"rank-diagram-{regime}-title")
        assert f"synaptic {means.rank(axis=1)['synaptic'].mean():.2f}" in ranks["title"]
    assert len(parsed.ids) == len(set(parsed.ids))
    text = " ".join(parsed.text.split())
    assert "univariate: Against “dropout”" in text
    assert "multivariate: Against “dropout”" in text


def test_the_contents_lead_to_every_section(html, names):
    parsed = Page(html)
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    headings = [a.get("id") for tag, a in parsed.tags if tag == "h2"]
    assert links[-len(headings) :] == [f"#{name}" for name in headings]
    assert {"arms", "chance", "forecasts", "next", "again"} <= set(headings)


@pytest.mark.usefixtures("undrawn")
def test_tests_over_data_sets_are_folded_where_there_is_one(html):
    alone = page(make_records(["co2"]), ["co2"])
    folded = re.search(r"<summary>The tests over data sets</summary>.*?</details>", alone, re.DOTALL).group()
    assert "Friedman" in folded
    assert "Pairwise comparisons" in folded
    assert "The tests over data sets" not in html


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("arms", [("none", "synaptic"), ("none", "dropout", "synaptic")])
def test_dropout_is_named_where_it_took_part(arms):
    plan = replace(PLAN, arms=arms)
    text = " ".join(Page(page(make_records(["co2"], plan), ["co2"], plan)).text.split())
    assert ("compared with dropout" in text) == ("dropout" in arms)
    assert "mc-dropout" not in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("reading", "call"), [("", 'load(cell["dataset"]'), ("vix.csv: 40 rows", 'read_csv("your.csv"')]
)
def test_a_file_called_like_a_registered_data_set_is_read_as_a_file(reading, call):
    html = page(make_records(["vix"]), ["vix"], reading=reading)
    code = unescape(re.search(r'<code id="load">(.*?)</code>', html, re.DOTALL).group(1))
    (line,) = [line for line in code.splitlines() if line.startswith("data = ")]
    assert call in line


@pytest.mark.usefixtures("undrawn")
def test_leaks_are_the_first_thing_said(names):
    leaking = replace(PLAN, protocol="paper")
    text = " ".join(Page(page(make_records(names, leaking), names, leaking)).text.split())
    body = text[text.index("These numbers leak") :]
    assert body.index("These numbers leak") < body.index("Synaptic pruning, compared with dropout")
    assert "What leaked protocols would have claimed " + PAPER_NOTE in text
    assert "Chronological split" not in text
    honest = Page(page(make_records(names), names)).text
    assert "leak" not in honest
    assert "Chronological split" in honest


def test_the_checks_take_no_part_in_the_ranking(undraw, names):
    undraw("draw_panels")
    plan = replace(PLAN, arms=(*PLAN.arms, "identical", "broken"))
    records = make_records(names, plan)
    for record in records:
        if "broken" in record["arms"]:
            record["arms"]["broken"]["mae"] = 9.0
    html = page(records, names, plan)
    text = " ".join(Page(html).text.split())
    assert "Null check" in text
    assert "worse on 2 of 2" in text
    assert "rank of broken" not in text
    assert "identical" not in re.search(r'<svg[^>]*aria-labelledby="rank-diagram.*?</svg>', html, re.DOTALL).group()


def test_of_many_data_sets_six_are_drawn_and_the_runs_are_left_to_the_table(monkeypatch, undraw):
    undraw("draw_regime")
    monkeypatch.setattr("synaptic_pruning.study.forecasting.report.page.null_check", lambda *_: None)
    plan = replace(PLAN, models=("rnn",), lengths=(3,), seeds=32)
    names = [f"series number {n}" for n in range(8)]
    parsed = Page(page(make_records(names, plan), names, plan))
    for picture in ("weights", "forecasts"):
        assert len([name for name in parsed.ids if re.fullmatch(rf"{picture}-\d+-title", name)]) == 6
    text = " ".join(parsed.text.split())
    assert "Six of 8 data sets" in text
    assert "1,024 rows are too many for a page" in text


def test_the_same_data_give_the_same_page(html, names):
    assert page(make_records(names), names) == html


@pytest.mark.usefixtures("undrawn")
def test_a_failed_run_is_told_with_its_reason(names):
    records = make_records(names)
    cell = records[0]["cell"]
    records[0] = {
        "cell": cell,
        "hash": records[0]["hash"],
        "option": "",
        "arms": {},
        "status": f"failed: ValueError: {EVIL}",
    }
    html = page(records, names)
    text = " ".join(Page(html).text.split())
    assert "1 of 64 runs failed; with their partners in the other arms, 4 are left out" in text
    assert f"failed: ValueError: {EVIL}" in text
    assert html.count("<script") == 1


def test_when_everything_failed_the_page_still_says_so(names):
    records = [
        {"cell": r["cell"], "hash": r["hash"], "option": "", "arms": {}, "status": "failed: x"}
        for r in make_records(names)
    ]
    text = Page(page(records, names)).text
    assert "No verdict" in text
    assert "64 of 64 runs failed" in text


def test_one_data_set_one_model_two_arms():
    plan = Plan(models=("rnn",), arms=("dropout", "synaptic"), lengths=(3,), horizons=(1,), seeds=1, epochs=4)
    text = Page(page(make_records(["co2"], plan), ["co2"], plan)).text
    assert "no significance is claimed" in text
    assert "needs two data sets and three arms" in text


def test_the_table_has_one_row_a_run_and_survives_the_disk(tmp_path, names):
    records = make_records(names)
    table = to_table(records, {}, {})
    assert list(table.columns) == COLUMNS
    assert len(table) == 2 * 2 * 2 * 2 * 4
    row = table[(table["arm"] == "mc-dropout")].iloc[0]
    record = next(r for r in records if "mc-dropout" in r["arms"])
    assert row["mae"] == record["arms"]["mc-dropout"]["mae"]
    assert row["train_seconds"] == record["train_seconds"]
    assert (row["prunable"], row["alive"], row["status"]) == (1000, 1000, "ok")
    assert row["config_hash"] == record["hash"]
    write_table(table, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), table, check_dtype=False)
    columns = [
        pq.ParquetFile(tmp_path / "results.parquet").metadata.row_group(0).column(n) for n in range(len(COLUMNS))
    ]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert set(PROMISED) <= {column.path_in_schema for column in columns}
    csv = pd.read_csv(tmp_path / "results.csv")
    np.testing.assert_allclose(csv["mae"], table["mae"])
    assert list(csv["dataset"]) == list(table["dataset"])


def test_the_best_network_is_chosen_on_validation_data(tmp_path, names):
    records = make_records(["a/b"])
    for number, record in enumerate(records):
        save_file({"w": tensor([float(number)])}, tmp_path / f"{record['hash']}.safetensors")
    (tmp_path / "networks").mkdir()
    for stale in ("a%2Fb-rnn-narrow", "a%2Fb-rnn-own"):
        (tmp_path / "networks" / f"{stale}.safetensors").touch()
    keep_best_networks(records, tmp_path, tmp_path / "networks")

    def smallest(model, pruned):
        """Number and arm of the record with the smallest validation error of its arms."""
        found = [
            (answer["validation_mae"], number, arm)
            for number, record in enumerate(records)
            if record["cell"]["model"] == model and (record["cell"]["option"]["algorithm"] or not pruned)
            for arm, answer in record["arms"].items()
        ]
        return min(found)[1:]

    expected = {"a%2Fb-rnn-own.safetensors"}  # no name that is given here
    for model in PLAN.models:
        assert best_records(records)["a/b", model, 1] is records[smallest(model, False)[0]]
        for number, arm in (smallest(model, False), smallest(model, True)):
            expected.add(f"a%2Fb-{model}-{arm}.safetensors")
            kept = load_file(tmp_path / "networks" / f"a%2Fb-{model}-{arm}.safetensors")
            assert kept["w"].item() == number
    assert {path.name for path in (tmp_path / "networks").iterdir()} == expected
    assert len(expected) > 1 + len(PLAN.models)


def test_training_curves_are_relative_to_the_best_epoch_of_the_first_arm():
    records = make_records(["co2"])
    curves = training._curves(records)
    group, reference = ("co2", "multivariate", "rnn", 3, 1), 0.0
    bests = [
        min(e["validation_mae"] for e in r["history"])
        for r in records
        if (r["cell"]["model"], r["cell"]["length"], r["cell"]["arms"][0]["name"]) == ("rnn", 3, "none")
    ]
    reference = np.mean(bests)
    row = curves[(curves["group"] == group) & (curves["arm"] == "synaptic")].iloc[0]
    assert row["log_error"] == pytest.approx(np.log(row["error"] / reference))
