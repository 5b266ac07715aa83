"""Plots of pruning: bins by brute force, and pixels read back from the SVG."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from helpers.svg_reading import read_svg
from synaptic_pruning.study.plots import COLOURS, error_by_sparsity, growth, masks, sparsity_by_layer
from synaptic_pruning.study.plots.pruning import bin_by_sparsity, downsample

EVIL = "<script>alert('x')</script> & $a$"


def history(errors, sparsities):
    pairs = enumerate(zip(errors, sparsities, strict=True), start=1)
    return [{"epoch": n, "validation_mae": e, "sparsity": s} for n, (e, s) in pairs]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100), st.integers(10, 30)), min_size=1, max_size=30))
def test_bins_equal_brute_force(rows):
    table = pd.DataFrame([(run, s / 100, e / 10) for run, s, e in rows], columns=["run", "sparsity", "error"])
    found = bin_by_sparsity(table)
    assert list(found.index) == sorted({s // 5 for _, s, _ in rows})
    for place, row in found.iterrows():
        runs = {run for run, s, _ in rows if s // 5 == place}
        means = [np.mean([e / 10 for r, s, e in rows if (r, s // 5) == (run, place)]) for run in runs]
        assert row["median"] == pytest.approx(np.median(means))
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(means, [0.25, 0.75])))


def test_errors_are_relative_to_the_best_epoch_of_their_own_run():
    # Run 1 ends at 2/2, run 2 at 300/200: median 1.25, quartiles 1.125 and 1.375.
    panel = error_by_sparsity([history([8, 4, 2], [0, 0.5, 0.9]), history([400, 200, 300], [0, 0.5, 0.9])])
    assert "2 runs" in panel.description
    assert "At 90% sparsity the median is 1.250, quartiles 1.125 and 1.375" in panel.description
    texts = read_svg(panel).texts
    assert {"weights alive", "100 %", "50 %", "10 %", "validation MAE ÷ best epoch"} <= set(texts)
    thin = [e for e in read_svg(panel).root.iter("path") if "stroke-width: 0.5" in (e.get("style") or "")]
    assert len(thin) == 2  # one line a run


def test_hundreds_of_runs_become_pixels_under_lines_that_stay_lines():
    panel = error_by_sparsity([history([3, 2, 1], [0, 0.5, 0.9])] * 201)
    assert len(read_svg(panel).images) >= 1
    assert "stroke-width: 0.5" not in panel.svg
    assert len(panel.svg) < 300_000


def test_a_network_that_is_never_pruned_has_one_bin():
    assert "At 0% sparsity" in error_by_sparsity([history([2.0, 1.0], [0, 0])]).description


@pytest.mark.parametrize("bad", [[], [history([1.0], [0.0]), []]])
def test_nothing_to_draw_is_refused(bad):
    with pytest.raises(ValueError, match="at least one run and one epoch"):
        error_by_sparsity(bad)


def entries(final):
    return [
        {"progress": progress, "layer": layer, "sparsity": progress * sparsity}
        for progress in (1.0, 0.25, 0.5)  # in any order
        for layer, sparsity in final.items()
    ]


def test_layers_are_named_with_their_last_sparsity_in_their_order():
    panel = sparsity_by_layer(entries({"z.weight": 0.9, EVIL: 0.5, "a.weight": 0.0}))
    texts = read_svg(panel).texts
    assert [text for text in texts if text in ("z.weight", EVIL, "a.weight")] == ["z.weight", EVIL, "a.weight"]
    assert [text for text in texts if text.endswith("%")] == ["90%", "50%", "0%"]
    assert panel.description.endswith(f"at the end: z.weight 90%, {EVIL} 50%, a.weight 0%.")


def test_the_pixels_of_the_layers_are_their_sparsity_through_training():
    (image,) = read_svg(sparsity_by_layer(entries({"pruned": 1.0, "alive": 0.0}))).images
    height, width = image.shape[:2]
    light = image[..., :3].sum(-1)
    row = light[height // 4]
    assert row[width // 12] < row[width // 2] < row[-width // 12]  # pale is pruned
    np.testing.assert_allclose(
        image[3 * height // 4, 5 : width - 5, :3], [to_rgb(COLOURS["synaptic"])] * (width - 10), atol=0.01
    )


def test_a_layer_without_a_value_is_named():
    with pytest.raises(ValueError, match="every layer needs a sparsity at every progress, 'b' lacks one"):
        sparsity_by_layer([*entries({"a": 0.5}), {"progress": 1.0, "layer": "b", "sparsity": 0.1}])
    with pytest.raises(ValueError, match="at least one"):
        sparsity_by_layer([])


def test_a_mask_is_shown_weight_by_weight():
    mask = np.random.default_rng(0).random((9, 14)) < 0.4
    mask[3], mask[:, 5] = False, False
    (panel,) = masks({EVIL: mask})
    (image,) = read_svg(panel).images
    assert image.shape[:2] == mask.shape
    np.testing.assert_allclose(image[mask][:, :3], [to_rgb(COLOURS["synaptic"])] * mask.sum(), atol=0.01)
    assert (image[~mask][:, :3] > 0.9).all()
    assert panel.title == f"{EVIL}: {mask.mean():.0%} alive"
    pruned = [sum(not any(line) for line in lines) for lines in (mask.tolist(), mask.T.tolist())]
    assert min(pruned) >= 1
    told = f"{mask.sum()} of 126 weights alive, {pruned[0]} of 9 rows and {pruned[1]} of 14 columns wholly pruned"
    assert told in panel.description
    assert {"14 inputs", "9 units"} <= set(read_svg(panel).texts)
    assert re.search("image-rendering: ?(crisp-edges|pixelated)", panel.svg)


def test_masks_of_any_shape_and_size():
    shapes = {"convolution": (4, 3, 5, 5), "vector": (6,), "large": (700, 1000), "all": (2, 2)}
    panels = masks({name: np.ones(shape, dtype=bool) for name, shape in shapes.items()})
    assert [read_svg(panel).images[0].shape[:2] for panel in panels] == [(4, 75), (6, 1), (256, 256), (2, 2)]
    ids = [value for panel in panels for value in re.findall(r'\sid="([^"]+)"', panel.svg)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("bad", [np.ones((2, 2)), np.zeros((0, 3), dtype=bool)])
def test_what_is_no_mask_is_refused(bad):
    with pytest.raises(ValueError, match="'w' must be a boolean array with elements"):
        masks({"w": bad})


@pytest.mark.parametrize("shape", [(256, 3), (257, 300), (1000, 1)])
def test_shrinking_keeps_the_share_alive(shape):
    mask = np.random.default_rng(1).random(shape) < 0.3
    picture = downsample(mask)
    assert picture.shape == tuple(min(side, 256) for side in shape)
    rows, columns = (np.array_split(np.arange(side), edges(side)) for side in shape)
    expected = [[mask[np.ix_(r, c)].mean() for c in columns] for r in rows]
    np.testing.assert_allclose(picture, expected)


def edges(side):
    return [i * side // 256 for i in range(1, 256)] if side > 256 else range(1, side)


def lived(alive, grown, pruned, age):
    pairs = zip(alive, grown, pruned, age, strict=True)
    return [dict(zip(("alive", "grown", "pruned", "age"), values, strict=True)) for values in pairs]


def test_what_grew_and_was_pruned_in_an_epoch_is_drawn_in_percent_of_the_alive():
    # In the second epoch 30 of 100 are exchanged, in the third 10.
    history = lived([100] * 3, [0, 30, 40], [0, 30, 40], [1, 1.7, 2.4])
    (panel,) = growth({"set": history})
    assert panel.title == "set"
    assert "40 weights grown and 40 pruned in 3 epochs; 100 are alive in the end, 2.4 epochs old" in panel.description
    bars = [e for e in read_svg(panel).root.iter("path") if "fill: #0b7a75" in (e.get("style") or "")]
    heights = []
    for bar in bars:
        ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", bar.get("d"))]
        heights.append(max(ys) - min(ys))
    assert len(heights) == 3
    assert heights[0] == 0
    assert heights[1] == pytest.approx(3 * heights[2], rel=1e-3)


def test_a_trifle_of_growth_is_no_tower_and_nothing_is_refused():
    (panel,) = growth({"set": lived([1000] * 2, [0, 1], [0, 1], [1, 2])})
    assert "+1" in read_svg(panel).texts  # a percent, ten times what was exchanged
    with pytest.raises(ValueError, match="'set' has no epoch"):
        growth({"set": []})
