"""Plot arms in pairs, so that no other arm has a say: every two of them, and two on every data set."""

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm

from synaptic_pruning.study.plots.style import (
    BETTER_TO_WORSE,
    COLOURS,
    FAINT,
    INK,
    LEAST_CHANGE,
    Panel,
    inches,
    new_figure,
    of_part,
    styled,
    to_svg,
)
from synaptic_pruning.study.statistics import ALPHA, comparison_matrix


@styled
def comparison_map(table: pd.DataFrame, part: str = "") -> Panel:
    """Draw the multi-comparison matrix: in each row what one arm has against all others, the best arm first.

    A cell holds the relative change of the error (geometric mean), won / tied / lost blocks, and the p-value of
    Wilcoxon's test without a correction, bold below `ALPHA`. Teal is better, orange is worse.

    Args:
        table: Positive errors, one row per block, one column per arm (`block_means`), at least one row and two arms.
        part: The part of the study that it is of, where it has several on one page.

    Raises:
        ValueError: There are fewer than two arms, no rows, or an error is no positive number.
    """
    matrix = comparison_matrix(table)
    k = len(matrix.arms)
    logs = np.full((k, k), np.nan)  # the diagonal stays blank
    for (arm, other), entry in matrix.entries.items():
        logs[matrix.arms.index(arm), matrix.arms.index(other)] = np.log1p(entry.difference)
    figure, (axes,) = new_figure(
        height=0.3 + inches(matrix.arms) + 0.5 * k,
        width=0.3 + inches(matrix.arms) + 0.85 * k,
    )
    reach = max(LEAST_CHANGE / 2, float(np.nanmax(np.abs(logs))))
    axes.pcolormesh(
        np.ma.masked_invalid(logs), cmap=BETTER_TO_WORSE, norm=CenteredNorm(0, reach), edgecolors="white", linewidth=0.5
    )
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(k) + 0.5, [f"against {arm}" for arm in matrix.arms], rotation=55, ha="left")
    axes.set_yticks(np.arange(k) + 0.5, matrix.arms)
    axes.tick_params(labelcolor=INK)
    for (arm, other), entry in matrix.entries.items():
        row, column = matrix.arms.index(arm), matrix.arms.index(other)
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{entry.difference:+.1%}\n{entry.wins} / {entry.ties} / {entry.losses}\np = {entry.p_value:.2g}",
            ha="center",
            va="center",
            fontsize=6.5,
            fontweight="bold" if entry.p_value < ALPHA else "normal",
            color="white" if abs(logs[row, column]) > 0.7 * reach else INK,
        )
    told = "; ".join(
        f"{arm} against {other} {matrix.entries[arm, other].difference:+.1%}, "
        f"p = {matrix.entries[arm, other].p_value:.2g}"
        for place, arm in enumerate(matrix.arms)
        for other in matrix.arms[place + 1 :]
    )
    description = f"Every two arms compared over {matrix.blocks} blocks, the best first: {told}."
    title, name = of_part("Every two arms compared", part), of_part("comparison-map", part, "-")
    return Panel(title, description, to_svg(figure, name, description))


@styled
def effects_plot(effects: pd.DataFrame, arm: str, other: str, part: str = "") -> Panel:
    """Draw the difference of two arms on every data set, the best at the top, with its interval.

    Teal lies wholly on the better side, orange on the worse, grey on both. The axis spans ±5 % at least and holds every
    estimate; intervals are cut at ±50 %.

    Args:
        effects: Rows of `effects_by_dataset`, at least one.
        arm: The arm that is judged.
        other: The arm that it is compared with.
        part: The part of the study that it is of, where it has several on one page.
    """
    rows = np.arange(len(effects))
    figure, (axes,) = new_figure(height=0.8 + 0.17 * len(effects), width=3.6 + inches(effects["dataset"]))
    better, worse = effects["high"] < 0, effects["low"] > 0
    for chosen, shade in ((better, COLOURS["synaptic"]), (worse, COLOURS["dropout"]), (~better & ~worse, FAINT)):
        axes.hlines(rows[chosen], 100 * effects["low"][chosen], 100 * effects["high"][chosen], color=shade, linewidth=1)
        axes.plot(100 * effects["estimate"][chosen], rows[chosen], "o", color=shade, markersize=3.5)
    axes.axvline(0, color=INK, linewidth=0.8)
    sizes = effects[["estimate", "low", "high"]].abs().max()
    edge = 105 * max(LEAST_CHANGE / 2, sizes["estimate"], min(0.5, max(sizes.fillna(0))))
    axes.set(xlim=(-edge, edge), ylim=(len(effects) - 0.4, -0.6), xlabel=f"MAE against “{other}”, %")
    axes.set_yticks(rows, effects["dataset"])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="y", visible=False)
    description = (
        f"Relative difference in MAE of “{arm}” from “{other}” on {len(effects)} data sets: {int(better.sum())} "
        f"intervals lie on the better side, {int(worse.sum())} on the worse; the best is {effects['dataset'].iloc[0]} "
        f"with {effects['estimate'].iloc[0]:+.1%}, the worst {effects['dataset'].iloc[-1]} with "
        f"{effects['estimate'].iloc[-1]:+.1%}."
    )
    title = of_part(f"“{arm}” against “{other}”", part)
    return Panel(title, description, to_svg(figure, of_part(f"effects-{other}", part, "-"), description))
