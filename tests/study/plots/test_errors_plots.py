"""The pictures of a study: what they say is what the tables hold."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from helpers.svg_reading import read_svg
from synaptic_pruning.study.plots import COLOURS, costs_by_length, heat_map, rank_diagram, style
from synaptic_pruning.study.statistics import critical_difference

EVIL = "<script>alert('x')</script> & $a$"
ARMS = ["none", "dropout", "synaptic"]


def runs(datasets=("a", EVIL), models=("rnn", "lstm"), arms=ARMS, mae=None):
    rng = np.random.default_rng(0)
    mae = mae or (lambda *_: rng.uniform(1, 1.2))
    return pd.DataFrame(
        [
            {
                "dataset": d,
                "regime": "features",
                "model": m,
                "arm": a,
                "length": n,
                "horizon": 1,
                "seed": s,
                "mae": mae(d, m, a, n),
                "train_seconds": n * (1.0 + arms.index(a)) * (50 if (a, s) == ("synaptic", 2) else 1),  # one slow run
                "predict_seconds": 0.5,
                "peak_memory_mb": 300.0 + n * arms.index(a),
            }
            for d, m, a, n, s in itertools.product(datasets, models, arms, (7, 30), (0, 1, 2))
        ]
    )


def table(n, arms, step):
    rng = np.random.default_rng(1)
    return pd.DataFrame(rng.uniform(1, 1.1, (n, len(arms))) + np.arange(len(arms)) * step, columns=arms)


def test_the_rank_diagram_names_every_arm_with_its_rank_and_shows_the_difference():
    errors = pd.DataFrame([[1, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]], columns=["none", EVIL, "synaptic"])
    panel = rank_diagram(errors)
    texts = read_svg(panel).texts
    assert {"none 1.25", f"{EVIL} 2.00", "2.75 synaptic", "critical difference 1.66"} <= set(texts)
    assert critical_difference(3, 4) == pytest.approx(1.66, abs=0.005)
    assert f"none 1.25, {EVIL} 2.00, synaptic 2.75" in panel.description
    assert panel.description.endswith(f"cannot tell apart: none, {EVIL}, synaptic.")


@pytest.mark.parametrize(("n", "step", "bars"), [(12, 0.0, 1), (12, 1.0, 3), (40, 1.0, 0)])
def test_the_bars_of_the_rank_diagram_are_its_groups(n, step, bars):
    panel = rank_diagram(table(n, list("abcd"), step))
    groups = panel.description.rpartition("apart: ")[2].rstrip(".").split("; ")
    thick = [e for e in read_svg(panel).root.iter("path") if "stroke-width: 2.6" in (e.get("style") or "")]
    assert len(thick) == (0 if groups == ["none"] else len(groups)) == bars


def test_the_bars_of_the_rank_diagram_reach_from_the_best_to_the_worst_arm_of_a_group():
    panel = rank_diagram(table(12, list("abcd"), 1.0))  # ranks are exactly 1, 2, 3, 4; the difference is 1.35
    paths = list(read_svg(panel).root.iter("path"))

    def ends(style):
        found = [e.get("d") for e in paths if re.search(style, e.get("style", ""))]
        return sorted(tuple(float(x) for x in re.findall(r"[ML] (\S+) ", d)) for d in found)

    ((left, right),) = (e for e in ends("stroke: #1b2430(?!.*stroke-width)") if e[-1] - e[0] > 1)  # all else: ticks
    unit = (right - left) / 3
    reached = [((a - left) / unit + 1, (b - left) / unit + 1) for a, b in ends("stroke-width: 2.6")]
    np.testing.assert_allclose(reached, [(0.94, 2.06), (1.94, 3.06), (2.94, 4.06)], atol=0.02)


def test_the_rank_diagram_holds_every_arm():
    panel = rank_diagram(table(14, list(COLOURS), 0.01))
    assert len([text for text in read_svg(panel).texts if any(arm in text for arm in COLOURS)]) == len(COLOURS)


def test_a_rank_diagram_of_one_data_set_is_refused():
    with pytest.raises(ValueError, match="two blocks"):
        rank_diagram(table(1, ARMS, 0.0))


def test_the_heat_map_shows_the_ratio_of_geometric_means():
    factors = {"none": 1.0, "dropout": 0.5, "synaptic": 2.0}
    # Ratios at the two lengths are f and f · 1.21 (but for none), so their geometric mean is f · 1.1.
    found = heat_map(
        runs(mae=lambda d, m, a, n: (9 if d == "a" else 1e6) * factors[a] * (1.21 if n == 30 and a != "none" else 1))
    )
    texts = read_svg(found).texts
    assert texts.count("0.550") == texts.count("2.200") == 4
    assert {"a", EVIL, "rnn", "lstm"} <= set(texts)
    assert "none" not in texts
    assert "smaller in 4 of 8 cells" in found.description


def test_the_heat_map_is_white_at_one_and_symmetric_around_it():
    ratios = {"none": 1.0, "same": 1.0, "better": 0.8, "worse": 1.25}
    panel = heat_map(runs(("a",), ("rnn",), list(ratios), mae=lambda d, m, a, n: ratios[a]))
    fills = re.findall(r"fill: (#[0-9a-f]{6}); stroke: #ffffff", panel.svg)
    assert fills == ["#ffffff", "#0b7a75", "#c2570c"]


def test_a_hole_in_the_heat_map_stays_blank():
    table = runs()
    panel = heat_map(table[(table["dataset"] == "a") | (table["model"] == "rnn")])
    assert len([text for text in read_svg(panel).texts if re.fullmatch(r"\d\.\d{3}", text)]) == 6
    assert "of 6 cells" in panel.description


def test_a_heat_map_of_many_data_sets_has_no_numbers():
    assert "1.000" in read_svg(heat_map(runs([f"d{i}" for i in range(60)], ("rnn",), mae=lambda *_: 1.0))).texts
    assert "1.000" not in read_svg(heat_map(runs([f"d{i}" for i in range(61)], ("rnn",), mae=lambda *_: 1.0))).texts


def test_costs_over_windows_are_relative_to_the_reference():
    panels = costs_by_length(runs())
    assert [panel.title for panel in panels] == [
        "Training time",
        "Time to forecast the test set",
        "Peak memory of the process",
    ]
    for panel in panels:
        assert {"7", "30", "window length", "÷ none"} <= set(read_svg(panel).texts)
    assert panels[0].description.endswith("at length 30: none 1.00, dropout 2.00, synaptic 3.00.")
    assert panels[2].description.endswith("at length 30: none 1.00, dropout 1.10, synaptic 1.20.")
    assert {COLOURS[arm] in panels[0].svg for arm in ARMS} == {True}


def test_names_of_arms_are_text_too():
    for panel in (heat_map(runs(arms=["none", EVIL])), *costs_by_length(runs(arms=["none", EVIL]))):
        assert EVIL in panel.description + " ".join(read_svg(panel).texts)


@pytest.mark.parametrize("picture", [heat_map, costs_by_length])
def test_a_missing_reference_is_named(picture):
    with pytest.raises(ValueError, match=r"reference: .*'none'"):
        picture(runs(arms=["dropout", "synaptic"]))


def test_the_same_data_give_the_same_picture_and_no_two_share_an_id():
    made = [rank_diagram(table(9, ARMS, 0.1)), heat_map(runs()), *costs_by_length(runs())]
    again = [rank_diagram(table(9, ARMS, 0.1)), heat_map(runs()), *costs_by_length(runs())]
    assert made == again
    ids = [value for panel in made for value in re.findall(r'\sid="([^"]+)"', panel.svg)]
    assert len(ids) == len(set(ids))
    assert style.REFERENCE == "none"
