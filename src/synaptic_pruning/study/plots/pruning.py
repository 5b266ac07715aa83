"""Plot the course of pruning: error against sparsity, sparsity of every layer, and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from synaptic_pruning.study.plots.style import COLOURS, FAINT, INK, Panel, inches, new_figure, styled, to_svg

_BIN = 0.05
_MOST_LINES = 200
_MOST_PIXELS = 256
_ACCENT = COLOURS["synaptic"]
_PALE_TO_ACCENT = LinearSegmentedColormap.from_list("alive", ["#eef1f4", _ACCENT])
_ACCENT_TO_PALE = _PALE_TO_ACCENT.reversed()


@styled
def error_by_sparsity(histories: Sequence[Sequence[Mapping[str, Any]]]) -> Panel:
    """Draw the validation error against the share of alive weights, one thin line per run.

    Training runs from left to right. The error is relative to the run's best epoch. The thick line is the median over
    runs, the band their quartiles, in bins of 5 % sparsity. A run counts once in a bin, with the mean of its epochs
    there.

    Args:
        histories: Epochs of every run in order, each with validation_mae (positive) and sparsity (in [0, 1]).

    Raises:
        ValueError: There is no run, or a run without an epoch.
    """
    if not histories or not all(histories):
        raise ValueError(f"histories: needs at least one run and one epoch each, got {[len(h) for h in histories]}")
    rows = [
        (
            run,
            float(entry["sparsity"]),
            float(entry["validation_mae"]) / min(float(e["validation_mae"]) for e in history),
        )
        for run, history in enumerate(histories)
        for entry in history
    ]
    table = pd.DataFrame(rows, columns=["run", "sparsity", "error"])
    binned = bin_by_sparsity(table)
    figure, (axes,) = new_figure(height=3.0, width=4.6)
    for _, run in table.groupby("run"):
        axes.plot(
            1 - run["sparsity"],
            run["error"],
            color=FAINT,
            linewidth=0.5,
            alpha=max(0.08, min(0.5, 8 / len(histories))),
            rasterized=len(histories) > _MOST_LINES,
        )
    axes.fill_between(1 - binned["sparsity"], binned["low"], binned["high"], color=_ACCENT, alpha=0.25, linewidth=0)
    axes.plot(1 - binned["sparsity"], binned["median"], color=_ACCENT, marker="o", markersize=3.5)
    axes.set_xlim(1.05, 0.95 * (1 - float(table["sparsity"].max())))
    axes.set(xscale="log", yscale="log", xlabel="weights alive", ylabel="validation MAE ÷ best epoch")
    for axis, written in ((axes.xaxis, _percent), (axes.yaxis, _plain)):
        axis.set_major_locator(
            LogLocator(subs=(1.0, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0, 5.0) if axis is axes.yaxis else (1.0, 2.0, 5.0))
        )
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(written))
    axes.set_ylim(0.97, max(1.1, 1.1 * float(table["error"].quantile(0.99))))
    last = binned.iloc[-1]
    description = (
        f"Validation error of {len(histories)} runs relative to each run's best epoch, against the share of weights "
        f"alive. At {last['sparsity']:.0%} sparsity the median is {last['median']:.3f}, quartiles "
        f"{last['low']:.3f} and {last['high']:.3f}. Early epochs, at the left, are also those in which the network has "
        "yet to learn."
    )
    return Panel("Error while weights are pruned", description, to_svg(figure, "error-by-sparsity", description))


def bin_by_sparsity(table: pd.DataFrame) -> pd.DataFrame:
    """Compute median and quartiles over runs in bins of 5 % sparsity.

    Args:
        table: Columns run, sparsity, error; one row per epoch.

    Returns:
        One row per bin that holds an epoch, sparsity rising: sparsity (mean over its runs), median, low, high.

    Example:
        >>> rows = [(0, 0.0, 2.0), (0, 0.01, 4.0), (1, 0.0, 5.0), (0, 0.9, 1.0)]
        >>> bin_by_sparsity(pd.DataFrame(rows, columns=["run", "sparsity", "error"])).values.tolist()
        [[0.0025, 4.0, 3.5, 4.5], [0.9, 1.0, 1.0, 1.0]]
    """
    place = np.floor(table["sparsity"] / _BIN + 1e-9).rename("bin")
    a_run = table.groupby([place, "run"])[["sparsity", "error"]].mean()
    bins = a_run.groupby("bin")
    errors = bins["error"]
    return pd.DataFrame(
        {
            "sparsity": bins["sparsity"].mean(),
            "median": errors.median(),
            "low": errors.quantile(0.25),
            "high": errors.quantile(0.75),
        }
    )


@styled
def sparsity_by_layer(
    entries: Sequence[Mapping[str, Any]], title: str = "Layer by layer", name: str = "layers"
) -> Panel:
    """Draw the sparsity of every layer through training, one row per layer, with the last value beside it.

    Args:
        entries: Dictionaries with progress (in [0, 1]), layer (its name) and sparsity (in [0, 1]), in any order.
        title: Caption of the panel.
        name: Id of the panel, distinct on a page.

    Raises:
        ValueError: There is no entry, or a layer is missing at some progress.
    """
    if not entries:
        raise ValueError("entries: needs at least one, got none")
    frame = pd.DataFrame(entries)
    table = frame.pivot_table(index="layer", columns="progress", values="sparsity", sort=False).sort_index(axis=1)
    if table.isna().any(axis=None):
        layer = str(table.index[table.isna().any(axis=1)][0])
        raise ValueError(f"entries: every layer needs a sparsity at every progress, {layer!r} lacks one")
    names = [str(name) for name in table.index]
    figure, (axes,) = new_figure(height=0.75 + 0.2 * len(names), width=3.6 + inches(names))
    steps = table.columns.to_numpy(dtype=float)
    middle = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate([[min(0.0, steps[0])], middle, [max(1.0, steps[-1])]])
    axes.pcolormesh(
        edges, np.arange(len(table) + 1), table.to_numpy(float), cmap=_ACCENT_TO_PALE, vmin=0, vmax=1, rasterized=True
    )
    figure.dpi = 200  # for the pixels only: names and numbers stay text
    axes.set(ylim=(len(table), 0), xlabel="share of training")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(axis="y", labelcolor=INK)
    final = table.iloc[:, -1]
    for row, value in enumerate(final):
        axes.text(edges[-1] + 0.015, row + 0.5, f"{value:.0%}", va="center")
    told = ", ".join(f"{name} {value:.0%}" for name, value in final.items())
    description = (
        f"Sparsity of {len(table)} layers through training, dark is dense, pale is pruned; at the end: {told}."
    )
    return Panel(title, description, to_svg(figure, name, description))


@styled
def masks(alive: Mapping[str, ArrayLike]) -> list[Panel]:
    """Draw masks, one panel per parameter: a pixel is a weight, or the share alive of many in a large layer.

    Args:
        alive: Boolean mask of every parameter by name, True where the weight is alive. All dimensions but the first
            are flattened, so that a row is an output unit.

    Raises:
        ValueError: A mask is not boolean or is empty.
    """
    panels: list[Panel] = []
    for name, values in alive.items():
        mask = np.asarray(values)
        if mask.dtype != bool or mask.size == 0:
            raise ValueError(f"alive: {name!r} must be a boolean array with elements, got {mask.dtype} {mask.shape}")
        flat = mask.reshape(len(mask), -1) if mask.ndim else mask.reshape(1, 1)
        image = downsample(flat)
        figure, (axes,) = new_figure(height=0.9 + 2.6 * min(1.6, max(0.12, flat.shape[0] / flat.shape[1])))
        axes.imshow(image, cmap=_PALE_TO_ACCENT, vmin=0, vmax=1, interpolation="none", aspect="auto")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(xticks=[], yticks=[], xlabel=_count(flat.shape[1], "input"), ylabel=_count(flat.shape[0], "unit"))
        count = int(flat.sum())
        description = (
            f"Mask of {name}, {' × '.join(str(n) for n in mask.shape)}: {count:,} of {flat.size:,} weights alive, "
            f"{int((~flat.any(1)).sum()):,} of {len(flat):,} rows and {int((~flat.any(0)).sum()):,} of "
            f"{flat.shape[1]:,} columns wholly pruned."
        )
        panels.append(
            Panel(
                f"{name}: {count / flat.size:.0%} alive",
                description,
                to_svg(figure, f"mask-{len(panels)}", description),
            )
        )
    return panels


def downsample(mask: np.ndarray) -> np.ndarray:
    """Average a mask over near-equal blocks, so that no side has more than 256 pixels.

    Example:
        >>> downsample(np.array([[True, False]])).tolist()
        [[1.0, 0.0]]
        >>> downsample(np.ones((300, 2), dtype=bool)).shape
        (256, 2)
    """
    image = mask.astype(float)
    for axis, side in enumerate(mask.shape):
        if side > _MOST_PIXELS:
            starts = np.arange(_MOST_PIXELS) * side // _MOST_PIXELS
            widths = np.diff(np.append(starts, side))
            sums = np.add.reduceat(image, starts, axis=axis)
            image = sums / (widths[:, None] if axis == 0 else widths)
    return image


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number > 1 else ''}"


def _percent(value: float, _: int) -> str:
    return f"{100 * value:g} %"


def _plain(value: float, _: int) -> str:
    return f"{value:g}"
