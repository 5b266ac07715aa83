"""The page of the comparison on images: what it says and shows of made-up records."""

from html import escape

import numpy as np
import pytest
from scipy import stats

from helpers.image_records import a_task, records_of, works
from helpers.svg_reading import read_svg
from synaptic_pruning.study.classification import plots as figures
from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.classification.cells import ImageCell
from synaptic_pruning.study.classification.plan import ImagePlan
from synaptic_pruning.study.classification.report import render
from synaptic_pruning.study.classification.results import Difference, layer_rows, paired, summary_rows, to_table
from synaptic_pruning.study.classification.verdict import judge
from synaptic_pruning.study.engine.records import failure
from synaptic_pruning.study.engine.study_info import About

EVIL = "<script>alert('x')</script> & $a$"
ABOUT = About("synaptic-pruning compare")


def test_differences_are_students():
    one, other = [0.91, 0.94, 0.90, 0.97], [0.90, 0.95, 0.93, 0.93]
    interval = stats.ttest_rel(one, other).confidence_interval()
    found = Difference.of([a - b for a, b in zip(one, other, strict=True)])
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((interval.low, interval.high))
    assert not found.clear
    assert Difference.of([1.0, 1.1, 0.9]).clear
    assert Difference.of([5.0]) == Difference(5.0, None)
    assert not Difference.of([5.0]).clear


def rows_of(plan: ImagePlan):
    records = [
        works(ImageCell("made", "0", model, arm, 0.5 * ARMS[arm].matched, seed, 2, 64, 1e-3))
        for model in plan.models
        for arm in plan.arms
        for seed in plan.seeds
    ]
    return summary_rows(paired(to_table(records)))


def test_names_and_reasons_from_outside_are_escaped(tmp_path):
    plan = ImagePlan(("mlp", "cnn"), ("none", "disuse", "magnitude"), (0, 1, 2), 2)
    task = a_task(EVIL)
    records = records_of(plan, tmp_path, task)
    records[2]["status"] = f"failed: {EVIL}"
    page = render(to_table(records), records, plan=plan, task=task, about=About(EVIL), cells=tmp_path)
    assert EVIL not in page
    assert "<script>alert" not in page
    assert page.count(escape(EVIL, quote=False).replace("'", "&#39;")) >= 4
    assert "2 of 18 runs failed" not in page
    assert "3 of 18 runs failed" in page  # “disuse” with seed 2 of both models, and the one above
    assert page.count("<svg") == 2 + 6 + 2


def test_a_page_without_any_good_run(tmp_path):
    plan = ImagePlan(("mlp",), ("none", "synaptic"), (0,), 2)
    records = [
        failure(ImageCell("made", "0", "mlp", arm, 0.0, 0, 2, 64, 1e-3), "killed: signal 9") for arm in plan.arms
    ]
    page = render(to_table(records), records, plan=plan, task=a_task(), about=ABOUT, cells=tmp_path)
    assert "No verdict" in page
    assert page.count("killed: signal 9") == 2


@pytest.mark.parametrize(
    ("arms", "seeds", "headline"),
    [
        (
            ("none", "synaptic"),
            (0, 1),
            "With 50.0\xa0% of its connections, synaptic pruning is 5.00 points less accurate",
        ),
        (("none", "synaptic"), (0,), "less accurate than the dense network, on a single seed"),
        (("dropout", "random-ramp"), (0, 1), "“random-ramp” cannot be told apart from dropout"),
        (
            ("synaptic", "random-ramp"),
            (0, 1),
            "Most accurate here: “synaptic”, with 75.00\xa0% of the test images right",
        ),
        (("none", "dropout"), (0, 1), "Most accurate here: “none”"),
    ],
)
def test_the_verdict_in_words(arms, seeds, headline):
    assert headline in judge(rows_of(ImagePlan(("mlp",), arms, seeds, 2))).headline


def test_layers_are_matched_by_place_whatever_their_names():
    records = [works(ImageCell("made", "0", "mlp", arm, 0.0, 0, 2, 64, 1e-3)) for arm in ("none", "dropout")]
    records[0]["layers"] = {"1.weight": [4, 4], "3.weight": [2, 2]}
    records[1]["layers"] = {"1.weight": [4, 4], "4.weight": [1, 2]}
    assert layer_rows(records, to_table(records)) == [
        {"model": "mlp", "layer": "1.weight", "size": 4, "alive": {"none": 4.0, "dropout": 4.0}},
        {"model": "mlp", "layer": "3.weight", "size": 2, "alive": {"none": 2.0, "dropout": 1.0}},
    ]


def test_every_model_has_its_sentences():
    verdict = judge(rows_of(ImagePlan(("mlp", "cnn"), ("none", "dropout", "disuse", "magnitude"), (0, 1), 2)))
    assert verdict.headline.endswith("(mlp)")
    assert [s.split(":")[0] for s in verdict.sentences[::3]] == ["mlp", "cnn"]
    assert "−5.00 ± 0.00" in verdict.sentences[0]
    assert verdict.sentences[2].index("“magnitude”") > verdict.sentences[2].index("“disuse”")


def test_removed_connections_are_grey_and_the_rest_has_its_sign():
    weights = np.zeros((3, 2, 2))
    weights[1] = [[1.0, -1.0], [0.5, 0.0]]
    weights[2, 0, 0] = -2.0
    picture = figures.mosaic(weights, 2)  # the unit without connections is left out
    assert picture.shape == (2, 5, 3)
    red, blue = picture[0, 0], picture[0, 1]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert (picture[:, 2] == 1).all()  # between the two units
    grey = picture[1, 1]
    assert (picture[1, 3:] == grey).all()
    assert np.ptp(grey) < 0.05
    strong = picture[0, 3]
    assert strong[2] > strong[0]
    assert strong.sum() < blue.sum()


def test_pictures_tell_those_who_cannot_see_them(tmp_path):
    plan = ImagePlan(("cnn",), ("none", "disuse"), (0, 1), 2)
    task = a_task()
    records = records_of(plan, tmp_path, task)
    (curves,) = figures.learning(records)
    assert "accuracy %" in read_svg(curves).texts
    fields = figures.fields(records[:1], task, tmp_path)
    assert "16 units" in fields[0].description
    assert "3 × 3" in fields[0].description
    assert read_svg(fields[0]).images
    (streaks,) = figures.streaks(records)
    assert "18 alive, 6 removed" in streaks.description
    assert {"idle windows in a row", "connections", "alive", "removed"} <= set(read_svg(streaks).texts)
