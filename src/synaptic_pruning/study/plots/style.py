"""What all pictures share: colours, type, axes, and SVG that a page can hold inline."""

import io
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Any two differ clearly to every eye: by 0.1 or more in OKLab, also as seen without red, green or blue cones. There is
# no room for more colours than these, so each of the last rows shares one and differs by its dashes.
_LINES = {
    "none": ("#b59494", "-"),
    "dropout": ("#c2570c", "--"),
    "mc-dropout": ("#6b08d6", ":"),
    "synaptic": ("#0b7a75", "-"),
    "set": ("#0b7a75", "--"),
    "synaptic-ensemble": ("#002200", ":"),
    "narrow-ensemble": ("#ad50ba", "--"),
    "vos2025": ("#739ce6", "--"),
    "one-shot": ("#ef8421", ":"),
    "random": ("#945aff", "--"),
    "random-ramp": ("#945aff", "-"),
    "narrow": ("#942900", "-"),
    "weight-decay": ("#29009c", "--"),
    "identical": ("#663355", "-"),
    "broken": ("#420052", ":"),
    "magnitude": ("#ef8421", "-"),
    "rigl": ("#739ce6", "-"),
    "granet": ("#ad50ba", ":"),
    "disuse": ("#6b08d6", "-"),
    "survival": ("#29009c", ":"),
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


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draw in the report's style; matplotlib decides when a text is made whether it is read as mathematics."""

    @wraps(draw)
    def in_style(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return in_style


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
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    return figure, list(axes[:, 0])


def inches(names: Iterable[str]) -> float:
    """About how long the longest of these texts is."""
    return 0.07 * max((len(name) for name in names), default=0)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Render to an `<svg>` element: the same bytes for the same data, ids that no other panel of a page uses."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
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
