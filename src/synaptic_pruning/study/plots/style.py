"""Define the style of all plots: colours, type, axes, and SVG that a page can hold inline."""

import io
import math
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
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Any two lines differ clearly to every eye: by 0.1 or more in OKLab, also as seen without red, green or blue cones.
# There is no room for more such colours, so each of the last rows shares one and differs by its dashes.
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
    "identical": ("#663355", "-"),
    "broken": ("#420052", ":"),
    "magnitude": ("#ef8421", "-"),
    "rigl": ("#739ce6", "-"),
    "granet": ("#ad50ba", ":"),
    "disuse": ("#6b08d6", "-"),
    "survival": ("#29009c", ":"),
    "early": ("#ef8421", "--"),
    "uncompensated": ("#942900", "--"),
    "inputs": ("#420052", "-"),
    "locked-dropout": ("#c2570c", "-"),
    "synaptic-dropout": ("#0b7a75", ":"),
    "wide": ("#29009c", "-"),
    "dense-ensemble-x2": ("#b59494", "--"),
    "dense-ensemble-x3": ("#b59494", ":"),
    "dense-ensemble-x5": ("#663355", "--"),
}
COLOURS = {arm: colour for arm, (colour, _) in _LINES.items()}
"""Colours of the arms."""
DASHES = {arm: dash for arm, (_, dash) in _LINES.items()}
"""Line styles of the arms."""
REFERENCE = "none"
"""Arm that errors and costs are relative to."""
MARKERS = "os^Dv"
LEAST_CHANGE = 0.1
"""Smallest span of an axis of ratios; half of it is the smallest change in full colour."""
_LEAST_RATIO = 2.0  # of the ends of a logarithmic axis
BETTER_TO_WORSE = LinearSegmentedColormap.from_list("better to worse", ["#0b7a75", "#ffffff", "#c2570c"], N=257)
"""Colours of relative errors: teal is better, orange is worse."""
INK, FAINT, GRID = "#1b2430", "#5f6b7a", "#e3e7ec"
_STYLE: Any = {
    "svg.fonttype": "none",  # texts stay searchable, in the page's own font
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
    """One plot of a page.

    Attributes:
        title: Caption.
        description: Text for readers who cannot see the plot.
        svg: The plot as an `<svg>` element.
    """

    title: str
    description: str
    svg: str


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a drawing function in the report's style; matplotlib applies some settings when a text is made."""

    @wraps(draw)
    def in_style(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return in_style


def dots(axes: Axes, table: pd.DataFrame) -> None:
    """Draw one row per line of the table and one dot per column, slightly apart.

    Args:
        axes: Axes to draw on.
        table: One row per line, one column per arm.
    """
    apart = np.linspace(0.22, -0.22, table.shape[1])
    for offset, arm in zip(apart, table.columns, strict=True):
        axes.plot(table[arm], np.arange(len(table)) - offset, "o", markersize=5.5, **point(arm))
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def log_scale(axes: Axes) -> None:
    """Make the x axis logarithmic, over a factor of two at least, with plain numbers: 200, 1,000, 0.05."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high / low < _LEAST_RATIO:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(_LEAST_RATIO), middle * math.sqrt(_LEAST_RATIO)
        axes.set_xlim(low, high)
    # Less than a factor of five may hold but one of 1, 2, 5.
    few = MaxNLocator(4) if high / low < 5 else LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0))
    axes.xaxis.set_major_locator(few)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))


def widen(axes: Axes, least: float = LEAST_CHANGE) -> None:
    """Stretch the y axis, which holds ratios, so that it spans at least this: a trifle is not drawn as a gulf."""
    low, high = axes.get_ylim()
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def of_part(text: str, part: str, between: str = ", ") -> str:
    """Return a caption or an id with the part of the study that it is of, where there are several."""
    return f"{text}{between}{part}" if part else text


def colour(arm: str) -> str:
    """Return the colour of an arm; an unknown one is grey."""
    return COLOURS.get(arm, FAINT)


def line(arm: str) -> dict[str, Any]:
    """Return colour and line style of an arm, as arguments of `Axes.plot`."""
    return {"color": colour(arm), "linestyle": DASHES.get(arm, "-")}


def point(arm: str) -> dict[str, Any]:
    """Return colour and filling of an arm's points, which tell apart what dashes do: full, hollow or half."""
    filling = {"-": "full", "--": "none", ":": "left"}[DASHES.get(arm, "-")]
    return {"color": colour(arm), "fillstyle": filling, "markerfacecoloralt": "white"}


def new_figure(rows: tuple[int, ...] = (1,), height: float = 2.5, width: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Make a figure with axes one below the other.

    Args:
        rows: Relative heights of the axes.
        height: Height of the figure in inches.
        width: Width of the figure in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    return figure, list(axes[:, 0])


def inches(names: Iterable[str]) -> float:
    """Estimate the length of the longest of these texts, in inches."""
    return 0.07 * max((len(name) for name in names), default=0)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Render to an `<svg>` element: the same bytes for the same data.

    Args:
        figure: Figure to render.
        name: Prefix of all ids, distinct on a page.
        description: Text for readers who cannot see the plot.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser draws the text in its own font
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
