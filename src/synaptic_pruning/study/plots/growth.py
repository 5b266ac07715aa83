"""Plot what rules that grow weights do: how many are pruned and grown, and how old the alive ones are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synaptic_pruning.study.plots.style import FAINT, Panel, colour, new_figure, styled, to_svg


@styled
def growth(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Panel]:
    """Draw the weights grown and pruned in every epoch, and the mean age of the alive ones, one panel an arm.

    Grown weights are bars above the line, pruned ones below it, in percent of the weights that are alive. The age is
    in epochs; the dashed line is that of a network that lost no weight.

    Args:
        histories: Epochs of one run of every arm in order, each with alive (a count), grown and pruned (counts since
            the start) and age (mean of the alive ones, in epochs).

    Raises:
        ValueError: A history is empty.
    """
    panels: list[Panel] = []
    for arm, history in histories.items():
        if not history:
            raise ValueError(f"histories: {arm!r} has no epoch; give at least one.")
        alive, grown, pruned, age = (
            np.array([entry[key] for entry in history], float) for key in ("alive", "grown", "pruned", "age")
        )
        born, lost = (100 * np.diff(counts, prepend=0) / alive for counts in (grown, pruned))
        epochs = np.arange(1, len(history) + 1)
        figure, (top, bottom) = new_figure(rows=(3, 2))
        top.bar(epochs, born, width=0.9, color=colour(arm))
        top.bar(epochs, -lost, width=0.9, color=FAINT, hatch="////", edgecolor="white", linewidth=0)
        top.axhline(0, color=FAINT, linewidth=0.7)
        top.tick_params(labelbottom=False)
        top.set_ylabel("% of alive weights\n− pruned, + grown")
        reach = 1.1 * max(1.0, float(np.quantile(np.concatenate([born, lost]), 0.95)))
        top.set_ylim(-reach, reach)
        top.yaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")
        bottom.plot(epochs, epochs, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        bottom.plot(epochs, age, color=colour(arm))
        bottom.set(xlabel="epoch", ylabel="mean age", ylim=(0, 1.05 * len(history)))
        top.sharex(bottom)
        figure.align_ylabels()
        cut = int((np.maximum(born, lost) > reach).sum())
        description = (
            f"{arm}: {grown[-1]:,.0f} weights grown and {pruned[-1]:,.0f} pruned in {len(history)} epochs; "
            f"{alive[-1]:,.0f} are alive in the end, {age[-1]:.1f} epochs old on average."
        )
        if cut:
            description += f" {cut} bar{'s' if cut > 1 else ''} end beyond the picture."
        panels.append(Panel(arm, description, to_svg(figure, f"growth-{len(panels)}", description)))
    return panels
