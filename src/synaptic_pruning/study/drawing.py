"""What all pictures share: colours, type, axes, and SVG that a page can hold inline."""

import io
import re
import warnings
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

# Any two differ clearly to every eye: by 0.1 or more in OKLab, also as seen without red, green or blue cones.
_LINES = {
    "none": ("#aa9988", "-"),
    "dropout": ("#c2570c", "--"),
    "mc-dropout": ("#8e44ad", ":"),
    "synaptic": ("#0b7a75", "-"),
    "synaptic-ensemble": ("#002200", ":"),
    "vos2025": ("#00aadd", "--"),
    "one-shot": ("#dd8811", ":"),
    "random": ("#9955ff", "--"),
    "narrow": ("#993300", "-"),
    "weight-decay": ("#330099", "--"),
    "identical": ("#663355", "-"),
    "broken": ("#440055", ":"),
}
COLOURS = {arm: colour for arm, (colour, _) in _LINES.items()}
DASHES = {arm: dash for arm, (_, dash) in _LINES.items()}
MARKERS = "os^Dv"
INK, FAINT, GRID = "#1b2430", "#5f6b7a", "#e3e7ec"
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, in the page's own font
    "text.parse_math": False,  # a column called $x$ is shown as it is
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": "#aab2bd",
    "axes.labelcolor": FAINT,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
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


def dots(axes: Axes, table: pd.DataFrame) -> None:
    """One row a line of the table, one dot a column; dots that would hide each other are set slightly apart."""
    apart = np.linspace(0.22, -0.22, table.shape[1])
    for offset, arm in zip(apart, table.columns, strict=True):
        axes.plot(table[arm], np.arange(len(table)) - offset, "o", color=colour(arm), markersize=5.5)
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def log_scale(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers: 200, 1,000, 0.05."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))


def colour(arm: str) -> str:
    """The colour of an arm; one that is not among the known is grey."""
    return COLOURS.get(arm, FAINT)


def line(arm: str) -> dict[str, Any]:
    """Colour and dashes of an arm's line."""
    return {"color": colour(arm), "linestyle": DASHES.get(arm, "-")}


def new_figure(rows: tuple[int, ...] = (1,), height: float = 2.5, width: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of the given inches with axes one below the other, as high as `rows` says."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    return figure, list(axes[:, 0])


def to_svg(figure: Figure, name: str, description: str) -> str:
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
