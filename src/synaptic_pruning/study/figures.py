"""The report's pictures as inline SVG: small panels that the page lays out side by side or one below the other."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from synaptic_pruning.study.arms import ARMS
from synaptic_pruning.study.statistics import average_ranks, blocks

Record = Mapping[str, Any]

_FIRST = {
    "none": ("#5f6b7a", "-"),
    "dropout": ("#c2570c", "--"),
    "mc-dropout": ("#8e44ad", ":"),
    "synaptic": ("#0b7a75", "-"),
}
_OTHERS = ["#b8860b", "#2f6db5", "#9c5b7d", "#7a8b1f", "#a33b3b", "#3aa39b", "#aab2bd", "#1b2430"]
COLOURS = {name: colour for name, (colour, _) in _FIRST.items()}
COLOURS |= dict(zip((name for name in ARMS if name not in _FIRST), _OTHERS, strict=True))
DASHES = {name: _FIRST[name][1] if name in _FIRST else "-." for name in ARMS}
MARKERS = "os^Dv"
_INK, _FAINT, _GRID = "#1b2430", "#5f6b7a", "#e3e7ec"
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, in the page's own font
    "text.parse_math": False,  # a column called $x$ is shown as it is
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": "#aab2bd",
    "axes.labelcolor": _FAINT,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Panel:
    """One picture: a caption, a description for those who cannot see it, and the SVG itself."""

    title: str
    description: str
    svg: str


def training(records: Sequence[Record]) -> list[Panel]:
    """Error and sparsity through training, one panel a model: the geometric mean over data sets, lengths and seeds."""
    curves = _curves(records)
    panels: list[Panel] = []
    for model, of_model in curves.groupby("model", sort=False):
        figure, (top, bottom) = _figure(rows=(3, 1))
        for arm, of_arm in of_model.groupby("arm", sort=False):
            mean = of_arm.groupby("epoch").agg(error=("log_error", "mean"), sparsity=("sparsity", "mean"))
            style = _line(str(arm))
            top.plot(mean.index, np.exp(mean["error"]), **style)
            bottom.plot(mean.index, 100 * mean["sparsity"], **style)
        top.tick_params(labelbottom=False)
        top.set_ylabel("relative MAE")
        bottom.set(xlabel="epoch", ylabel="sparsity %", ylim=(-5, 105), yticks=(0, 50, 100))
        top.sharex(bottom)
        figure.align_ylabels()
        reference = records[0]["cell"]["arms"][0]["name"]
        description = (
            f"Validation error of {model} after every epoch, divided by the best epoch of “{reference}”, and the "
            "sparsity reached, for every way of training."
        )
        panels.append(Panel(str(model), description, _svg(figure, f"training-{len(panels)}", description)))
    return panels


def _curves(records: Sequence[Record]) -> pd.DataFrame:
    """Rows (model, arm, epoch, log_error, sparsity); an arm that shares a training shows as the first of them."""
    rows = [
        {
            "group": (cell["dataset"], cell["model"], cell["length"]),
            "model": cell["model"],
            "arm": cell["arms"][0]["name"],
            "seed": cell["seed"],
            "epoch": entry["epoch"],
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


def weights(results: pd.DataFrame) -> list[Panel]:
    """Error against alive weights, one panel a data set, one point a model and arm."""
    panels: list[Panel] = []
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        figure, (axes,) = _figure()
        for marker, (_, of_model) in zip(_cycle(MARKERS), of_dataset.groupby("model", sort=False), strict=False):
            means = of_model.groupby("arm", sort=False)[["alive", "skill"]].mean().astype(float)
            same = means.groupby("alive")["alive"]
            shown = means["alive"] * 1.18 ** (same.cumcount() - (same.transform("size") - 1) / 2)
            axes.plot(shown, 1 - means["skill"], color=_GRID, zorder=1)
            for arm, row in means.iterrows():
                axes.plot(
                    shown[str(arm)],
                    1 - row["skill"],
                    marker,
                    color=_colour(str(arm)),
                    markersize=6,
                    markeredgecolor="white",
                    markeredgewidth=0.8,
                )
        axes.axhline(1, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        _log_scale(axes)
        axes.set(xlabel="alive weights", ylabel="MAE ÷ persistence")
        description = f"Test error on {dataset}, relative to persistence, against the number of weights that are alive."
        panels.append(Panel(str(dataset), description, _svg(figure, f"weights-{len(panels)}", description)))
    return panels


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
        figure, (axes,) = _figure()
        truth = of_dataset[0]["tail"]["truth"][-shown:]
        steps = np.arange(-len(truth) + 1, 1)
        axes.plot(steps, truth, color=_INK, linewidth=1.1, marker=".", markersize=3.5)
        for record in of_dataset:
            for arm, values in record["tail"]["forecasts"].items():
                axes.plot(steps, values[-shown:], **{**_line(arm), "linewidth": 1.2})
        axes.set(xlabel="steps before the end of the test set", ylabel="value")
        cell = of_dataset[0]["cell"]
        description = f"The last {len(truth)} values of {dataset} and one-step forecasts of {cell['model']}."
        title = f"{dataset} · {cell['model']}, window {cell['length']}"
        panels.append(Panel(title, description, _svg(figure, f"forecasts-{len(panels)}", description)))
    return panels


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
        figure, (axes,) = _figure()
        _dots(axes, table.astype(float))
        axes.set(xlabel=unit)
        if column.endswith("seconds"):
            _log_scale(axes)
        else:
            axes.set_xlim(0, 1.15 * float(table.to_numpy().max()))
        description = f"{title}: median {unit} a run for every model and arm."
        panels.append(Panel(title, description, _svg(figure, f"costs-{column}", description)))
    return panels


def ranks(results: pd.DataFrame) -> Panel:
    """Average rank of every arm over data sets, for all models together and for each."""
    rows = {"all models": average_ranks(blocks(results))} if results["model"].nunique() > 1 else {}
    rows |= {str(model): average_ranks(blocks(part)) for model, part in results.groupby("model", sort=False)}
    table = pd.DataFrame(rows).T
    figure, (axes,) = _figure(height=0.9 + 0.38 * len(table))
    _dots(axes, table)
    axes.set(xlabel="average rank (1 is best)", xlim=(0.8, table.shape[1] + 0.2), xticks=range(1, table.shape[1] + 1))
    description = "Average ranks of the arms over data sets, 1 is best: " + "; ".join(
        f"{name}: " + ", ".join(f"{arm} {rank:.2f}" for arm, rank in row.items()) for name, row in rows.items()
    )
    return Panel("Average ranks", description, _svg(figure, "ranks", description))


def _dots(axes: Axes, table: pd.DataFrame) -> None:
    """One row a line of the table, one dot a column; dots that would hide each other are set slightly apart."""
    apart = np.linspace(0.22, -0.22, table.shape[1])
    for offset, arm in zip(apart, table.columns, strict=True):
        axes.plot(table[arm], np.arange(len(table)) - offset, "o", color=_colour(arm), markersize=5.5)
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.tick_params(axis="y", labelcolor=_INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _log_scale(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers: 200, 1,000, 0.05."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))


def _colour(arm: str) -> str:
    return COLOURS[arm]


def _line(arm: str) -> dict[str, Any]:
    return {"color": _colour(arm), "linestyle": DASHES[arm]}


def _cycle(markers: str) -> str:
    return markers * 20


def _figure(rows: tuple[int, ...] = (1,), height: float = 2.5) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, height), layout="constrained")
        axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    return figure, list(axes[:, 0])


def _svg(figure: Figure, name: str, description: str) -> str:
    """Render to an `<svg>` element: the same bytes for the same data, ids that no other panel of a page uses."""
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser's font draws the text
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call]
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML needs none; a page without URLs is easy to trust
    svg = re.sub(r'(?<=\sid=")|(?<=url\(#)|(?<=href="#)', f"{name}-", svg)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', rf'\1 role="img" aria-labelledby="{name}-title"', svg, count=1)
    end = svg.index(">") + 1
    return f'{svg[:end]}<title id="{name}-title">{escape(description)}</title>{svg[end:]}'
