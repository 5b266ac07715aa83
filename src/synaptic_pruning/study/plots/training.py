"""The report's pictures as inline SVG: small panels that the page lays out side by side or one below the other."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.plots.style import COLOURS as COLOURS
from synaptic_pruning.study.plots.style import DASHES as DASHES
from synaptic_pruning.study.plots.style import (
    GRID,
    INK,
    MARKERS,
    Panel,
    colour,
    dots,
    line,
    log_scale,
    new_figure,
    styled,
    to_svg,
)
from synaptic_pruning.study.statistics.rank_tests import average_ranks, blocks

Record = Mapping[str, Any]
_SHARES = 40


@styled
def training(records: Sequence[Record]) -> list[Panel]:
    """Error and sparsity through training, one panel a model: the geometric mean over data sets, lengths and seeds.

    Where trainings have different numbers of epochs, they are read at the same shares of training.
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


def _curves(records: Sequence[Record]) -> pd.DataFrame:
    """Rows (run, model, arm, epoch, epochs, log_error, sparsity); arms that share a training show as the first."""
    rows = [
        {
            "group": (cell["dataset"], cell["model"], cell["length"]),
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


@styled
def weights(results: pd.DataFrame) -> list[Panel]:
    """Error against alive weights, one panel a data set, one point a model and arm."""
    panels: list[Panel] = []
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        figure, (axes,) = new_figure()
        for marker, (_, of_model) in zip(cycle(MARKERS), of_dataset.groupby("model", sort=False), strict=False):
            means = of_model.groupby("arm", sort=False)[["alive", "skill"]].mean().astype(float)
            same = means.groupby("alive")["alive"]
            shown = means["alive"] * 1.18 ** (same.cumcount() - (same.transform("size") - 1) / 2)
            axes.plot(shown, 1 - means["skill"], color=GRID, zorder=1)
            for arm, row in means.iterrows():
                axes.plot(
                    shown[str(arm)],
                    1 - row["skill"],
                    marker,
                    color=colour(str(arm)),
                    markersize=6,
                    markeredgecolor="white",
                    markeredgewidth=0.8,
                )
        axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        log_scale(axes)
        axes.set(xlabel="alive weights", ylabel="MAE ÷ persistence")
        description = f"Test error on {dataset}, relative to persistence, against the number of weights that are alive."
        panels.append(Panel(str(dataset), description, to_svg(figure, f"weights-{len(panels)}", description)))
    return panels


@styled
def forecasts(records: Sequence[Record], shown: int = 40) -> list[Panel]:
    """Forecasts against the truth at the end of the test set, one panel a data set.

    Args:
        records: one cell an arm and data set, the one chosen on validation data.
        shown: how many steps.
    """
    panels: list[Panel] = []
    by_dataset: dict[str, list[Record]] = {}
    for record in records:
        by_dataset.setdefault(record["cell"]["dataset"], []).append(record)
    for dataset, of_dataset in by_dataset.items():
        figure, (axes,) = new_figure()
        truth = of_dataset[0]["tail"]["truth"][-shown:]
        steps = np.arange(-len(truth) + 1, 1)
        axes.plot(steps, truth, color=INK, linewidth=1.1, marker=".", markersize=3.5)
        for record in of_dataset:
            for arm, values in record["tail"]["forecasts"].items():
                axes.plot(steps, values[-shown:], **{**line(arm), "linewidth": 1.2})
        axes.set(xlabel="steps before the end of the test set", ylabel="value")
        cell = of_dataset[0]["cell"]
        description = f"The last {len(truth)} values of {dataset} and one-step forecasts of {cell['model']}."
        title = f"{dataset} · {cell['model']}, window {cell['length']}"
        panels.append(Panel(title, description, to_svg(figure, f"forecasts-{len(panels)}", description)))
    return panels


@styled
def costs(results: pd.DataFrame) -> list[Panel]:
    """Runtime and memory, one panel a quantity: medians over runs, one row a model."""
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
def ranks(results: pd.DataFrame, block_of: Mapping[str, str] | None = None) -> Panel:
    """Average rank of every arm over blocks, for all models together and for each."""
    parts = {"all models": results} if results["model"].nunique() > 1 else {}
    parts |= {str(model): part for model, part in results.groupby("model", sort=False)}
    rows = {name: average_ranks(blocks(part, block_of=block_of)) for name, part in parts.items()}
    table = pd.DataFrame(rows).T
    figure, (axes,) = new_figure(height=0.9 + 0.38 * len(table))
    dots(axes, table)
    axes.set(xlabel="average rank (1 is best)", xlim=(0.8, table.shape[1] + 0.2), xticks=range(1, table.shape[1] + 1))
    description = "Average ranks of the arms over data sets, 1 is best: " + "; ".join(
        f"{name}: " + ", ".join(f"{arm} {rank:.2f}" for arm, rank in row.items()) for name, row in rows.items()
    )
    return Panel("Average ranks", description, to_svg(figure, "ranks", description))
