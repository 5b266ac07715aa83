"""Plot error and sparsity through training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.engine import Record
from synaptic_pruning.study.plots.style import Panel, line, new_figure, styled, to_svg, widen

_SHARES = 40


@styled
def training_curves(records: Sequence[Record[Any]]) -> list[Panel]:
    """Draw error and sparsity through training, one panel per model.

    Errors are geometric means over data sets, lengths and seeds. Trainings with different numbers of epochs are
    interpolated at the same shares of training.

    Args:
        records: Records of single networks; the first arm of the first record is the reference.
    """
    curves = _curves(records)
    alike = curves["epochs"].nunique() == 1
    curves = curves.rename(columns={"epoch": "time"}) if alike else _at_equal_shares(curves)
    panels: list[Panel] = []
    for model, of_model in curves.groupby("model", sort=False):
        figure, (top, bottom) = new_figure(rows=(3, 1))
        for arm, of_arm in of_model.groupby("arm", sort=False):
            mean = of_arm.groupby("time").agg(error=("log_error", "mean"), sparsity=("sparsity", "mean"))
            style = line(str(arm))
            top.plot(mean.index, np.exp(mean["error"]), **style)
            bottom.plot(mean.index, 100 * mean["sparsity"], **style)
        top.tick_params(labelbottom=False)
        top.set_ylabel("relative MAE")
        widen(top)
        bottom.set(
            xlabel="epoch" if alike else "share of training", ylabel="sparsity %", ylim=(-5, 105), yticks=(0, 50, 100)
        )
        top.sharex(bottom)
        figure.align_ylabels()
        reference = records[0]["cell"]["arms"][0]["name"]
        description = (
            f"Validation error of {model} after every epoch, divided by the best epoch of “{reference}”, and the "
            "sparsity reached, for every way of training."
        )
        panels.append(Panel(str(model), description, to_svg(figure, f"training-{len(panels)}", description)))
    return panels


def _curves(records: Sequence[Record[Any]]) -> pd.DataFrame:
    """Return one row per epoch of every run; arms that share a training appear as the first of them."""
    rows = [
        {
            "group": (cell["dataset"], cell["regime"], cell["model"], cell["length"], cell["horizon"]),
            "model": cell["model"],
            "arm": cell["arms"][0]["name"],
            "seed": cell["seed"],
            "run": record["hash"],
            "epoch": entry["epoch"],
            "epochs": len(record["history"]),
            "error": entry["validation_mae"],
            "sparsity": entry["sparsity"],
        }
        for record in records
        if record["status"] == "ok"
        for cell in [record["cell"]]
        for entry in record["history"]
    ]
    table = pd.DataFrame(rows).astype({"error": float})
    reference = table[table["arm"] == records[0]["cell"]["arms"][0]["name"]]
    best = reference.groupby(["group", "seed"])["error"].min().groupby("group").mean()
    table["log_error"] = np.log(table["error"] / table["group"].map(best))
    return table


def _at_equal_shares(curves: pd.DataFrame) -> pd.DataFrame:
    shares = np.arange(1, _SHARES + 1) / _SHARES
    return pd.concat(
        pd.DataFrame(
            {
                "model": model,
                "arm": arm,
                "time": shares,
                **{
                    column: np.interp(shares, run["epoch"] / run["epochs"], run[column])
                    for column in ("log_error", "sparsity")
                },
            }
        )
        for (model, arm, _), run in curves.groupby(["model", "arm", "run"], sort=False)
    )
