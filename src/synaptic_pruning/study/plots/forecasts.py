"""Plot forecasts: against the truth, and how the error grows with the steps ahead."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from synaptic_pruning.study.plots.style import INK, Panel, line, new_figure, styled, to_svg
from synaptic_pruning.study.statistics import TASK, case_name, several_of


@styled
def forecasts(
    records: Sequence[Mapping[str, Any]],
    times: Mapping[str, ArrayLike] | None = None,
    targets: Mapping[str, str] | None = None,
    several: Sequence[str] = (),
    shown: int = 40,
) -> list[Panel]:
    """Draw forecasts of the next step and the truth at the end of the test set, one panel per data set.

    Args:
        records: One record per arm and data set, the one chosen on validation data.
        times: Times of all rows of a data set; without them steps are counted from the last one.
        targets: Name of the column that was forecast.
        several: What captions name beside the data set (`several_of`).
        shown: Number of steps to draw.
    """
    panels: list[Panel] = []
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_dataset.setdefault(record["cell"]["dataset"], []).append(record)
    for dataset, of_dataset in by_dataset.items():
        figure, (axes,) = new_figure()
        cell = of_dataset[0]["cell"]
        truth = of_dataset[0]["tail"]["truth"][-shown:]
        steps, label = _steps((times or {}).get(dataset), len(truth), cell["horizon"])
        axes.plot(steps, truth, color=INK, linewidth=1.1, marker=".", markersize=3.5)
        for record in of_dataset:
            for arm, values in record["tail"]["forecasts"].items():
                axes.plot(steps, values[-shown:], **{**line(arm), "linewidth": 1.2})
        if np.issubdtype(steps.dtype, np.datetime64):
            locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel=label, ylabel=(targets or {}).get(dataset, "value"))
        description = f"The last {len(truth)} values of {dataset} and one-step forecasts of {cell['model']}."
        case = case_name([cell[key] for key in TASK], several)
        title = f"{case} · {cell['model']}, window {cell['length']}"
        panels.append(Panel(title, description, to_svg(figure, f"forecasts-{len(panels)}", description)))
    return panels


def _steps(times: ArrayLike | None, count: int, horizon: int) -> tuple[NDArray[Any], str]:
    """Return when the next steps of the last origins are, and what to call that."""
    if times is None:
        return np.arange(-count + 1, 1), "steps before the last forecast"
    rows = np.asarray(times)
    rows = rows[: len(rows) - horizon + 1][-count:]  # the last origin has all its steps in the data
    return rows, "" if np.issubdtype(rows.dtype, np.datetime64) else "time"


@styled
def errors_by_step(errors: pd.DataFrame, targets: Mapping[str, str] | None = None) -> list[Panel]:
    """Draw the error against the steps ahead, one line per arm, one panel per data set, regime and horizon.

    Args:
        errors: Columns dataset, regime, horizon, arm, step (1 is the next row) and mae, in the units of the data.
        targets: Name of the column that was forecast.
    """
    panels: list[Panel] = []
    for task, of_case in errors.groupby(TASK, sort=False):
        figure, (axes,) = new_figure()
        for arm, of_arm in of_case.groupby("arm", sort=False):
            axes.plot(of_arm["step"], of_arm["mae"], **line(str(arm)))
        axes.set(xlabel="steps ahead", ylabel=f"MAE of {(targets or {}).get(str(task[0]), 'the target')}")
        axes.set_ylim(0, 1.1 * float(of_case["mae"].max()))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        last = of_case[of_case["step"] == of_case["step"].max()]
        ends = ", ".join(f"{arm} {mae:.4g}" for arm, mae in zip(last["arm"], last["mae"], strict=True))
        title = case_name(task, several_of(errors))
        description = f"Test error on {title} by steps ahead; at step {last['step'].iloc[0]}: {ends}."
        panels.append(Panel(title, description, to_svg(figure, f"by-step-{len(panels)}", description)))
    return panels
