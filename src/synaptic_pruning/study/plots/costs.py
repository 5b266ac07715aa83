"""Plot what networks cost: error against alive weights, runtime and memory by model and by window length."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from synaptic_pruning.study.plots.style import (
    GRID,
    INK,
    MARKERS,
    REFERENCE,
    Panel,
    dots,
    line,
    log_scale,
    new_figure,
    point,
    styled,
    to_svg,
    widen,
)
from synaptic_pruning.study.statistics import CASE, TASK, case_name, several_of


@styled
def error_by_weights(results: pd.DataFrame) -> list[Panel]:
    """Draw the error against the number of alive weights, one point per model and arm.

    There is one panel per data set, of several regimes and horizons one for each of them.

    Args:
        results: Paired runs (`paired`).
    """
    panels: list[Panel] = []
    for task, of_dataset in results.groupby(TASK, sort=False):
        dataset = case_name(task, several_of(results))
        figure, (axes,) = new_figure()
        for marker, (_, of_model) in zip(cycle(MARKERS), of_dataset.groupby("model", sort=False), strict=False):
            means = of_model.groupby("arm", sort=False)[["alive", "skill"]].mean().astype(float)
            same = means.groupby("alive")["alive"]
            shown = means["alive"] * 1.18 ** (same.cumcount() - (same.transform("size") - 1) / 2)
            axes.plot(shown, 1 - means["skill"], color=GRID, zorder=1)
            for arm, row in means.iterrows():
                axes.plot(shown[str(arm)], 1 - row["skill"], marker, markersize=5.5, **point(str(arm)))
        axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        log_scale(axes)
        widen(axes)
        axes.set(xlabel="alive weights", ylabel="MAE ÷ persistence")
        description = f"Test error on {dataset}, relative to persistence, against the number of weights that are alive."
        panels.append(Panel(dataset, description, to_svg(figure, f"weights-{len(panels)}", description)))
    return panels


@styled
def costs_by_model(results: pd.DataFrame) -> list[Panel]:
    """Draw runtime and memory as medians over runs, one panel per quantity, one row per model.

    Args:
        results: Paired runs (`paired`).
    """
    quantities = {
        "train_seconds": ("Training", "seconds"),
        "predict_seconds": ("Forecasting the test set", "seconds"),
        "peak_memory_mb": ("Peak memory of the process", "MB"),
    }
    panels: list[Panel] = []
    for column, (title, unit) in quantities.items():
        table = results.pivot_table(index="model", columns="arm", values=column, aggfunc="median", sort=False)
        figure, (axes,) = new_figure()
        dots(axes, table.astype(float))
        axes.set(xlabel=unit)
        if column.endswith("seconds"):
            log_scale(axes)
        else:
            axes.set_xlim(0, 1.15 * float(table.to_numpy().max()))
        description = f"{title}: median {unit} a run for every model and arm."
        panels.append(Panel(title, description, to_svg(figure, f"costs-{column}", description)))
    return panels


@styled
def costs_by_length(results: pd.DataFrame, reference: str = REFERENCE) -> list[Panel]:
    """Draw runtime and memory against window length, relative to one arm, one panel per quantity, one line per arm.

    Every point is the geometric mean over data sets and models of the ratio of medians over seeds.

    Args:
        results: Paired runs (`paired`).
        reference: Arm whose cost is 1 everywhere.

    Raises:
        ValueError: The results hold no runs of the reference.
    """
    if reference not in set(results["arm"]):
        raise ValueError(f"reference: no runs of {reference!r}; choose from {sorted(set(results['arm']))}")
    quantities = {
        "train_seconds": "Training time",
        "predict_seconds": "Time to forecast the test set",
        "peak_memory_mb": "Peak memory of the process",
    }
    panels: list[Panel] = []
    for column, title in quantities.items():
        table = results.pivot_table(index=CASE, columns="arm", values=column, aggfunc="median", sort=False)
        logs = table.astype(float).div(table[reference].astype(float), axis=0).transform(np.log)
        ratios = logs.groupby("length").mean().transform(np.exp)
        figure, (axes,) = new_figure()
        for arm in dict.fromkeys(results["arm"]):
            axes.plot([str(length) for length in ratios.index], ratios[arm], marker="o", markersize=3.5, **line(arm))
        axes.set(xlabel="window length", ylabel=f"÷ {reference}")
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.9), max(high, 1.1))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        ends = ", ".join(f"{arm} {value:.2f}" for arm, value in ratios.iloc[-1].items())
        description = f"{title} against window length, relative to “{reference}”; at length {ratios.index[-1]}: {ends}."
        panels.append(Panel(title, description, to_svg(figure, f"by-length-{column}", description)))
    return panels
