"""Plot the report on images: learning curves, receptive fields, idle streaks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from synaptic_pruning.study.classification.cells import ImageCell, ImageRecord, build_network
from synaptic_pruning.study.plots import FAINT, INK, Panel, colour, line, new_figure, styled, to_svg
from synaptic_pruning.tasks.classification import ClassificationTask, receptive_fields

_UNITS = 25
_PRUNED = "#c8ccd1"  # darker than a weight near zero, which is white


@styled
def learning(records: Sequence[ImageRecord]) -> list[Panel]:
    """Draw validation accuracy and sparsity after every epoch, means over seeds, one panel per model.

    Args:
        records: Records that ended well.
    """
    rows = [
        {"model": record["cell"]["model"], "arm": record["cell"]["arm"], **row}
        for record in records
        for row in record["history"]
    ]
    panels: list[Panel] = []
    for model, of_model in pd.DataFrame(rows).groupby("model", sort=False):
        figure, (top, bottom) = new_figure(rows=(3, 1))
        lowest = of_model[of_model["epoch"] > of_model["epoch"].max() / 5]["validation_accuracy"].min()
        for arm, of_arm in of_model.groupby("arm", sort=False):
            mean = of_arm.groupby("epoch")[["validation_accuracy", "sparsity"]].mean()
            style: Any = line(str(arm))
            top.plot(mean.index, 100 * mean["validation_accuracy"], **style)
            bottom.plot(mean.index, 100 * mean["sparsity"], **style)
        top.set(ylabel="accuracy %", ylim=(max(0.0, 100 * lowest - 5), 100.5))
        top.tick_params(labelbottom=False)
        bottom.set(xlabel="epoch", ylabel="sparsity %", ylim=(-5, 105), yticks=(0, 50, 100))
        top.sharex(bottom)
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.align_ylabels()
        description = f"Validation accuracy of {model} after every epoch, and the sparsity reached, means over seeds."
        panels.append(Panel(str(model), description, to_svg(figure, f"learning-{len(panels)}", description)))
    return panels


@styled
def fields(records: Sequence[ImageRecord], task: ClassificationTask, cells: Path) -> list[Panel]:
    """Draw receptive fields of the first layer, one panel per record: the units with the most alive connections.

    Args:
        records: Records of the networks to draw.
        task: Task that the networks were trained on.
        cells: Folder with the networks.
    """
    from safetensors.torch import load_file

    panels: list[Panel] = []
    for record in records:
        cell: Mapping[str, Any] = record["cell"]
        model = build_network(ImageCell(**{name: cell[name] for name in ImageCell.__dataclass_fields__}), task)
        model.load_state_dict(load_file(cells / f"{record['hash']}.safetensors"))
        weights = receptive_fields(model, task.shape).numpy()
        alive, size = next(iter(record["layers"].values()))
        image = mosaic(weights, _UNITS)
        figure, (axes,) = new_figure(height=2.6 * len(image) / image.shape[1] + 0.1, width=2.6)
        axes.imshow(image, interpolation="none")
        axes.set_axis_off()
        shown = min(_UNITS, len(weights))
        description = (
            f"What {shown} units of the first layer of {cell['model']} trained as “{cell['arm']}” look at, "
            f"{weights.shape[1]} × {weights.shape[2]} pixels each: red is positive, blue negative, grey pruned; "
            f"{alive:,} of {size:,} connections are left."
        )
        title = f"{cell['model']}, {cell['arm']}: {alive / size:.0%} of the first layer left"
        panels.append(Panel(title, description, to_svg(figure, f"fields-{len(panels)}", description)))
    return panels


def mosaic(weights: np.ndarray, units: int) -> np.ndarray:
    """Return the fields with the most alive connections as one image, shape (rows, columns, 3), values in [0, 1].

    Args:
        weights: Weights, shape (units, height, width); 0 is a pruned connection.
        units: Largest number of fields to show.

    Example:
        >>> image = mosaic(np.array([[[0.0, 0.0]], [[1.0, 0.0]]]), 4)
        >>> image.shape, image[0, 1].tolist() == image[0, 3].tolist()  # pruned ones look alike
        ((1, 5, 3), True)
    """
    pruned = weights == 0
    order = np.argsort(pruned.sum((1, 2)), kind="stable")[:units]
    limit = float(np.abs(weights[order]).max()) or 1.0
    painted = mpl.colormaps["RdBu_r"](0.5 + weights[order] / (2 * limit))[..., :3]
    painted[pruned[order]] = to_rgb(_PRUNED)
    columns = int(np.ceil(np.sqrt(len(order))))
    rows = -(-len(order) // columns)
    height, width = weights.shape[1:]
    image = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    for place, one in enumerate(painted):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        image[top : top + height, left : left + width] = one
    return image


@styled
def streaks(records: Sequence[ImageRecord]) -> list[Panel]:
    """Draw histograms of idle streaks at the end of pruning, all seeds together, one panel per model.

    Args:
        records: Records that ended well; those without streaks are left out.
    """
    panels: list[Panel] = []
    watched = [record for record in records if "streaks" in record]
    for model in dict.fromkeys(record["cell"]["model"] for record in watched):
        found = [record["streaks"] for record in watched if record["cell"]["model"] == model]
        longest = max(len(one[kind]) for one in found for kind in ("alive", "removed"))
        alive, pruned = (
            np.sum([np.pad(one[kind], (0, longest - len(one[kind]))) for one in found], axis=0).astype(int)
            for kind in ("alive", "removed")
        )
        patience = found[0]["patience"]
        figure, (axes,) = new_figure()
        axes.bar(np.arange(longest), alive, width=0.9, color=colour("disuse"), label="alive")
        axes.bar(np.arange(longest), pruned, width=0.9, bottom=alive, color=FAINT, alpha=0.45, label="removed")
        axes.axvline(patience - 0.5, color=INK, linestyle="--", linewidth=1)
        axes.set(xlabel="idle windows in a row", ylabel="connections", yscale="log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False)
        description = (
            f"How many connections of {model} under “disuse” were idle for how many windows in a row when pruning "
            f"ended: {int(alive.sum()):,} alive, {int(pruned.sum()):,} removed; {patience} windows end a connection."
        )
        panels.append(Panel(str(model), description, to_svg(figure, f"streaks-{len(panels)}", description)))
    return panels
