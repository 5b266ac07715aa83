"""Plot test errors: ranks with the critical difference, a heat map over data sets."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm

from synaptic_pruning.study.plots.style import (
    BETTER_TO_WORSE,
    FAINT,
    INK,
    LEAST_CHANGE,
    REFERENCE,
    Panel,
    colour,
    dots,
    inches,
    new_figure,
    of_part,
    styled,
    to_svg,
)
from synaptic_pruning.study.statistics import ALPHA, average_ranks, block_means, cliques, critical_difference

_MOST_NUMBERED_ROWS = 60


@styled
def rank_diagram(table: pd.DataFrame, alpha: float = ALPHA, part: str = "") -> Panel:
    """Draw average ranks on one axis; a bar joins arms that Nemenyi's test cannot tell apart.

    Args:
        table: Errors, one row per block, one column per arm; at least two of each.
        alpha: Family-wise error rate of the critical difference, in (0, 1).
        part: The part of the study that it is of, where it has several on one page.

    Raises:
        ValueError: There are too few rows or columns.
    """
    n, k = table.shape
    difference = critical_difference(k, n, alpha)
    ranks = average_ranks(table)
    ordered = sorted(ranks, key=lambda arm: ranks[arm])
    groups = cliques(ranks, difference)
    left = (k + 1) // 2  # the better half is named on the left, the others on the right: no two leaders cross
    first_row = 0.55 + 0.22 * len(groups)
    depth = first_row + 0.5 * left
    axis, beside = 3.6, 0.6 + inches(ranks)
    figure, (axes,) = new_figure(height=0.8 + 0.32 * depth, width=axis + 2 * beside)
    room = beside / axis * (k - 1)
    axes.set(xlim=(1 - room, k + room), ylim=(depth, -1.3))
    axes.axis("off")
    axes.plot([1, k], [0, 0], color=INK, linewidth=1, solid_capstyle="butt")
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, -0.12], color=INK, linewidth=1)
        axes.text(tick, -0.2, str(tick), ha="center", va="bottom", color=FAINT)
    _bar(axes, 1, 1 + difference, -0.85)
    axes.text(1 + difference / 2, -0.95, f"critical difference {difference:.2f}", ha="center", va="bottom", color=FAINT)
    for place, arm in enumerate(ordered):
        on_left = place < left
        y = first_row + 0.5 * (place if on_left else k - 1 - place)
        end = 1 - 0.06 * (k - 1) if on_left else k + 0.06 * (k - 1)
        axes.plot([ranks[arm], ranks[arm], end], [0, y, y], color=colour(arm), linewidth=1.2)
        axes.plot([ranks[arm]], [0], "o", color=colour(arm), markersize=4.5)
        text = f"{arm} {ranks[arm]:.2f}" if on_left else f"{ranks[arm]:.2f} {arm}"
        axes.text(end + (-0.08 if on_left else 0.08), y, text, ha="right" if on_left else "left", va="center")
    for row, group in enumerate(groups):
        y = 0.32 + 0.22 * row
        reach = 0.02 * (k - 1)
        axes.plot([ranks[group[0]] - reach, ranks[group[-1]] + reach], [y, y], color=INK, linewidth=2.6)
    told = "; ".join(", ".join(group) for group in groups) or "none"
    description = (
        f"Average ranks over {n} blocks, 1 is best: {', '.join(f'{arm} {ranks[arm]:.2f}' for arm in ordered)}. "
        f"Critical difference of Nemenyi's test {difference:.2f}; groups that it cannot tell apart: {told}."
    )
    title, name = of_part("Average ranks and critical difference", part), of_part("rank-diagram", part, "-")
    return Panel(title, description, to_svg(figure, name, description))


def _bar(axes: Axes, start: float, end: float, y: float) -> None:
    axes.plot([start, end], [y, y], color=FAINT, linewidth=1)
    for x in (start, end):
        axes.plot([x, x], [y - 0.1, y + 0.1], color=FAINT, linewidth=1)


@styled
def heat_map(results: pd.DataFrame, reference: str = REFERENCE, part: str = "") -> Panel:
    """Draw the MAE relative to one arm, one row per data set, one column per model and arm.

    Teal is better, orange is worse. Cells are geometric means over window lengths and horizons (`block_means`), blank
    where a model has no runs on a data set. Up to 60 rows, cells hold their numbers. The colours end at the 95 %
    quantile of the changes, so that no outlier pales the rest, and not below 5 %, so that no trifle glares.

    Args:
        results: Paired runs (`paired`).
        reference: Arm whose error is 1 everywhere; it has no column.
        part: The part of the study that it is of, where it has several on one page.

    Raises:
        ValueError: The results hold no runs of the reference, or no other runs.
    """
    arms = [arm for arm in dict.fromkeys(results["arm"]) if arm != reference]
    if not arms or len(arms) == results["arm"].nunique():
        raise ValueError(
            f"reference: needs runs of {reference!r} and of another arm, got {sorted(set(results['arm']))}"
        )
    parts = {}
    for model, of_model in results.groupby("model", sort=False):
        table = block_means(of_model)
        parts[str(model)] = table[arms].div(table[reference], axis=0)
    order = list(dict.fromkeys(results["dataset"]))
    ratios = pd.concat(parts, axis=1).reindex(order)
    values = ratios.to_numpy(dtype=float)
    logs = np.ma.masked_invalid(np.log(values))
    numbered = len(ratios) <= _MOST_NUMBERED_ROWS
    rows, columns = values.shape
    figure, (axes,) = new_figure(
        height=0.5 + inches(arms) + (0.21 if numbered else 0.13) * rows,
        width=0.2 + inches(order) + 0.38 * columns,
    )
    reach = max(LEAST_CHANGE / 2, float(np.quantile(np.abs(logs.compressed()), 0.95)))
    norm = CenteredNorm(0, reach)
    axes.pcolormesh(logs, cmap=BETTER_TO_WORSE, norm=norm, edgecolors="white", linewidth=0.5 if numbered else 0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    models = list(parts)
    axes.set_xticks(np.arange(columns) + 0.5, arms * len(models), rotation=55, ha="left")
    axes.set_yticks(np.arange(rows) + 0.5, [str(name) for name in ratios.index])
    axes.tick_params(labelcolor=INK)
    for position in range(0, columns, len(arms)):
        axes.text(position + len(arms) / 2, rows + 0.15, models[position // len(arms)], ha="center", va="top")
        if position:
            axes.axvline(position, color=INK, linewidth=0.8)
    if numbered:
        for row, column in np.argwhere(~np.isnan(values)):
            dark = abs(logs[row, column]) > 0.7 * reach
            text = f"{values[row, column]:.3f}" if values[row, column] < 10 else f"{values[row, column]:.3g}"
            axes.text(
                column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK
            )
    better = int((values < 1).sum())
    description = (
        f"Test MAE relative to “{reference}” for {rows} data sets and {columns} pairs of model and arm: smaller in "
        f"{better} of {int((~np.isnan(values)).sum())} cells, in the median {np.nanmedian(values):.3f}."
    )
    title, name = of_part(f"MAE relative to “{reference}”", part), of_part("heat-map", part, "-")
    return Panel(title, description, to_svg(figure, name, description))


@styled
def ranks(results: pd.DataFrame, block_of: Mapping[str, str] | None = None, part: str = "") -> Panel:
    """Draw the average rank of every arm over blocks, for all models together and for each.

    Args:
        results: Paired runs (`paired`).
        block_of: Block of every data set (`block_means`); each data set is its own where None.
        part: The part of the study that it is of, where it has several on one page.
    """
    parts = {"all models": results} if results["model"].nunique() > 1 else {}
    parts |= {str(model): of_model for model, of_model in results.groupby("model", sort=False)}
    rows = {name: average_ranks(block_means(runs, block_of=block_of)) for name, runs in parts.items()}
    table = pd.DataFrame(rows).T
    figure, (axes,) = new_figure(height=0.9 + 0.38 * len(table))
    dots(axes, table)
    axes.set(xlabel="average rank (1 is best)", xlim=(0.8, table.shape[1] + 0.2), xticks=range(1, table.shape[1] + 1))
    description = "Average ranks of the arms over data sets, 1 is best: " + "; ".join(
        f"{name}: " + ", ".join(f"{arm} {rank:.2f}" for arm, rank in row.items()) for name, row in rows.items()
    )
    title, name = of_part("Average ranks", part), of_part("ranks", part, "-")
    return Panel(title, description, to_svg(figure, name, description))
