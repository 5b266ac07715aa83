"""The comparison map says what the comparison matrix holds, and joins arms without changing a cell."""

import numpy as np
import pandas as pd
import pytest

from helpers.svg_reading import read_svg
from synaptic_pruning.study.plots import COLOURS, FAINT, comparison_map, effects_plot
from synaptic_pruning.study.statistics import comparison_matrix

EVIL = "<script>alert('x')</script> & $a$"


def errors(arms):
    return pd.DataFrame(np.exp(np.random.default_rng(0).normal(0, 0.1, (12, len(arms)))), columns=arms)


def lines(panel):
    return read_svg(panel).texts


def test_every_cell_holds_its_entry():
    table = errors(["none", EVIL, "pruned"])
    matrix, texts = comparison_matrix(table), lines(comparison_map(table))
    for entry in matrix.entries.values():
        assert f"{entry.difference:+.1%}" in texts
        assert f"{entry.wins} / {entry.ties} / {entry.losses}" in texts
        assert f"p = {entry.p_value:.2g}" in texts
    assert [text for text in texts if text in matrix.arms] == list(matrix.arms)  # the best arm first
    assert f"against {EVIL}" in texts
    assert len([text for text in texts if text.startswith("p = ")]) == 6


def test_an_arm_that_joins_changes_no_cell():
    table = errors(["none", "dropout", "pruned"])
    before, after = (
        comparison_map(each).description.partition(": ")[2].rstrip(".").split("; ")
        for each in (table, table.assign(broken=5.0))
    )
    assert set(before) < set(after)
    assert len(after) == 6


def test_significant_cells_are_bold():
    table = pd.DataFrame({"none": np.arange(1.0, 13), "pruned": np.arange(1.0, 13) * np.linspace(0.8, 0.9, 12)})
    assert comparison_map(table).svg.count("font-weight: 700") >= 2  # both cells, whether by line or by text
    alike = pd.DataFrame({"none": [1.0, 2.0, 3.0], "pruned": [1.1, 1.9, 3.1]})
    assert "font-weight: 700" not in comparison_map(alike).svg


def test_the_same_data_give_the_same_picture_and_one_arm_is_refused():
    table = errors(["none", "pruned"])
    assert comparison_map(table) == comparison_map(table)
    with pytest.raises(ValueError, match="at least two arms"):
        comparison_map(table[["none"]])


def test_effects_are_coloured_by_the_side_of_their_interval_and_none_is_cut_off():
    rows = [("far", -0.9, np.nan, np.nan), ("better", -0.2, -0.3, -0.1), (EVIL, 0.0, -9, 9), ("worse", 0.2, 0.1, 0.3)]
    panel = effects_plot(pd.DataFrame(rows, columns=["dataset", "estimate", "low", "high"]), "pruned", "none")
    for shade, dots in ((COLOURS["synaptic"], 1), (COLOURS["dropout"], 1), (FAINT, 2)):
        assert panel.svg.count(f"fill: {shade}; stroke: {shade}") >= dots
    assert "1 intervals lie on the better side, 1 on the worse; the best is far with -90.0%" in panel.description
    texts = lines(panel)
    assert [text for text in texts if text in ("far", "better", EVIL, "worse")] == ["far", "better", EVIL, "worse"]
    assert "−75" in texts  # the axis reaches beyond the farthest estimate, not to the widest interval
    assert "−100" not in texts
    small = effects_plot(
        pd.DataFrame([("a", 0.01, np.nan, np.nan)], columns=["dataset", "estimate", "low", "high"]), "x", "y"
    )
    assert "4" in lines(small)  # of an axis that reaches 5 %
