"""Draw a forecast behind the rows that it goes on from."""

from typing import TYPE_CHECKING

import pandas as pd

from synaptic_pruning.study.forecaster.description import Description
from synaptic_pruning.tasks.forecasting import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 5
"""Rows shown before the forecast, as a multiple of its window."""


def draw_forecast(rows: Series, forecast: pd.DataFrame, description: Description) -> "Figure":
    """Return a figure of the latest rows, the forecast and its intervals.

    Args:
        rows: What was forecast from.
        forecast: What `Forecaster.forecast` made of it.
        description: The forecaster's.
    """
    from synaptic_pruning.study.plots import COLOURS, INK, new_figure, styled

    @styled
    def draw() -> "Figure":
        figure, (axes,) = new_figure(width=7.2)
        before = rows.times < forecast["time"].iloc[0]
        place = rows.columns.index(description.data.target)
        shown = slice(-max(_ROWS * description.network.length, 2 * len(forecast)), None)
        axes.plot(rows.times[before][shown], rows.values[before, place][shown], color=INK, label="observed")
        times = forecast["time"].to_numpy()
        marker = "o" if len(times) < 30 else ""
        axes.plot(times, forecast["forecast"], color=COLOURS["synaptic"], marker=marker, label="forecast")
        if forecast["low"].notna().any():
            label = f"{description.intervals.level:.0%} interval"
            if len(times) > 1:
                axes.fill_between(
                    times, forecast["low"], forecast["high"], color=COLOURS["synaptic"], alpha=0.2, label=label
                )
            else:
                axes.vlines(times, forecast["low"], forecast["high"], color=COLOURS["synaptic"], alpha=0.5, label=label)
        axes.set_ylabel(description.data.target)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=3, frameon=False)
        figure.autofmt_xdate()
        return figure

    return draw()
