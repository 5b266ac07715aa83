"""Pictures of a pruning, by matplotlib: sparsity, survival, masks, and which inputs are left."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from synaptic_pruning.core import Summary, gather
from synaptic_pruning.pruner import SynapticPruner
from synaptic_pruning.rules import Inputs

try:
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "synaptic_pruning.plot draws with matplotlib, which is missing: pip install 'synaptic-pruning[plot]'",
        name=error.name,
    ) from error

__all__ = ["inputs", "inputs_table", "masks", "sparsity", "survival"]

_ACCENT, _FAINT = "#0b7a75", "#5f6b7a"
_ALIVE = LinearSegmentedColormap.from_list("alive", ["#eef1f4", _ACCENT])
_MOST_PIXELS = 256
_MOST_COLUMNS = 4


def sparsity(source: SynapticPruner | Summary, ax: Axes | None = None) -> Axes:
    """Draw the fraction of prunable weights that are pruned over the steps of training.

    Args:
        source: A pruner, drawn up to the present step, or its ``summary()``, drawn up to the last event.
        ax: Axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ValueError: ``source`` is neither of them.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5)), total_steps=1)
        >>> net(torch.ones(1, 4)).sum().backward(); optimizer.step()
        >>> sp.plot.sparsity(pruner).get_lines()[0].get_xydata().tolist()
        [[0.0, 0.0], [1.0, 0.5]]
    """
    summary = _summary(source)
    alive: dict[int, int] = {}
    for curve in summary.survival:
        for step, part in zip(curve["steps"], curve["alive"], strict=True):
            alive[step] = alive.get(step, 0) + round(part * curve["size"])
    if isinstance(source, SynapticPruner):
        alive.setdefault(source.steps, summary.total.alive)
    ax = _axes(ax)
    pruned = [1 - count / summary.total.weights for count in alive.values()]
    ax.step(list(alive), pruned, where="post", color=_ACCENT)
    ax.set(xlabel="optimizer steps", ylabel="sparsity", ylim=(0, 1.02))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_title(f"{summary.total.alive:,} of {summary.total.weights:,} weights alive")
    return ax


def survival(source: SynapticPruner | Summary, ax: Axes | None = None) -> Axes:
    """Draw the fraction alive of every generation (weights grown at the same step) over its age in steps.

    Args:
        source: A pruner or its ``summary()``.
        ax: Axes to draw on; new ones by default.

    Returns:
        The axes; a line a generation.

    Raises:
        ValueError: ``source`` is neither of them.
    """
    summary = _summary(source)
    drawn: Axes = summary.plot_survival(_axes(ax))
    return drawn


def masks(source: SynapticPruner | Mapping[str, Tensor]) -> Figure:
    """Draw masks, one image a parameter: dark is alive, pale is pruned.

    A row is an entry of the first dimension, mostly an output unit; all other dimensions lie side by side. A side of
    more than 256 is averaged to 256 pixels, so a pixel of a large mask shows the fraction alive of several weights.

    Args:
        source: A pruner, or bool tensors by name, True = alive, such as some of ``pruner.masks()``. Where parameters
            are sharded, every rank must call it.

    Returns:
        A figure with the images in order, by name and fraction alive.

    Raises:
        ValueError: There is no mask, or one is not bool or is empty.
    """
    found = source.masks() if isinstance(source, SynapticPruner) else source
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"source={found!r} holds no mask; give the pruner, or bool tensors by name")
    for name, mask in found.items():
        if not isinstance(mask, Tensor) or mask.dtype is not torch.bool or mask.numel() == 0:
            raise ValueError(f"source[{name!r}] must be a bool tensor with entries, such as one of pruner.masks()")
    columns = min(_MOST_COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure, grid = pyplot.subplots(
        rows, columns, squeeze=False, figsize=(3.2 * columns, 2.8 * rows), layout="constrained"
    )
    places = list(grid.flat)
    for ax, (name, mask) in zip(places, gather(dict(found)).items(), strict=False):
        flat = mask.reshape(len(mask), -1) if mask.dim() else mask.reshape(1, 1)
        size = min(len(flat), _MOST_PIXELS), min(flat.shape[1], _MOST_PIXELS)
        image = torch.nn.functional.adaptive_avg_pool2d(flat.float().cpu()[None], size)[0]
        ax.imshow(image.tolist(), cmap=_ALIVE, vmin=0, vmax=1, interpolation="none", aspect="auto")
        ax.set(xticks=[], yticks=[], ylabel=_count(flat.shape[0], "row"), xlabel=_count(flat.shape[1], "column"))
        ax.set_title(f"{name}\n{int(mask.sum()):,} of {mask.numel():,} alive", fontsize="medium")
        ax.spines[:].set_visible(False)
    for ax in places[len(found) :]:
        ax.remove()
    return figure


def inputs(pruner: SynapticPruner, names: Iterable[object], ax: Axes | None = None) -> Axes:
    """Draw which input features are left under the rule `Inputs`: bars of their strength, pruned ones without.

    The strength is the rule's score: the norm of all alive weights that read the feature.

    Args:
        pruner: A pruner with the rule `Inputs`; a callback trains a copy of its rule, so take the callback's pruner.
        names: What the features are called, in the order of the inputs.
        ax: Axes to draw on; new ones by default.

    Returns:
        The axes; from the top the features in the order of the inputs.

    Raises:
        ValueError: Another rule, or not a name for every feature.
    """
    features = _features(pruner, names)
    if ax is None:
        ax = pyplot.subplots(figsize=(6.4, 1.2 + 0.22 * len(features)), layout="constrained")[1]
    ax.barh(range(len(features)), [feature.norm for feature in features], color=_ACCENT)
    ax.set_yticks(range(len(features)), [feature.name for feature in features], parse_math=False)
    for label, feature in zip(ax.get_yticklabels(), features, strict=True):
        if not feature.alive:
            label.set_color(_FAINT)
    for place, feature in enumerate(features):
        if not feature.alive:
            ax.annotate("pruned", (0, place), (4, 0), textcoords="offset points", va="center", color=_FAINT)
    ax.set(ylim=(len(features) - 0.5, -0.5), xlabel="norm of the weights that read it")
    ax.set_title(f"{sum(feature.alive for feature in features):,} of {_count(len(features), 'input')} left")
    return ax


def inputs_table(pruner: SynapticPruner, names: Iterable[object]) -> str:
    """Say in words which input features are left under the rule `Inputs`, the strongest first; see `inputs`.

    Args:
        pruner: As for `inputs`.
        names: As for `inputs`.

    Raises:
        ValueError: As for `inputs`.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = torch.nn.Linear(3, 1)
        >>> net.weight.data = torch.tensor([[0.5, 0.1, -2.0]])
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        >>> rule = sp.Inputs(sp.one_shot(1 / 3))
        >>> pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=1)
        >>> net(torch.ones(1, 3)).sum().backward(); optimizer.step()
        >>> print(sp.plot.inputs_table(pruner, ["load", "wind", "hour"]))
        2 of 3 inputs left
        hour  2
        load  0.5
        pruned: wind
    """
    features = _features(pruner, names)
    left = sorted((feature for feature in features if feature.alive), key=lambda feature: -feature.norm)
    width = max(len(feature.name) for feature in left)
    lines = [f"{feature.name.ljust(width)}  {feature.norm:.3g}" for feature in left]
    pruned = ", ".join(feature.name for feature in features if not feature.alive) or "none"
    return "\n".join(
        [
            f"{len(left):,} of {_count(len(features), 'input')} left",
            *lines,
            textwrap.fill(f"pruned: {pruned}", 100, break_long_words=False, break_on_hyphens=False),
        ]
    )


class _Feature(NamedTuple):
    """An input feature and the norm of the alive weights that read it, 0 where there are none."""

    name: str
    alive: bool
    norm: float


def _features(pruner: SynapticPruner, names: Iterable[object]) -> list[_Feature]:
    rule = getattr(pruner, "rule", None)
    if not isinstance(rule, Inputs):
        raise ValueError(f"pruner={pruner!r} must be a SynapticPruner with the rule Inputs, the one that prunes inputs")
    called = [names] if isinstance(names, str) else [str(name) for name in names]
    alive = rule.alive(pruner.synapses).tolist()
    if isinstance(names, str) or len(called) != len(alive):
        raise ValueError(f"names={called!r} must be a list of {len(alive)} names, one for each input feature")
    norms = rule.norms(pruner.synapses).nan_to_num(nan=0.0).tolist()
    return [_Feature(*feature) for feature in zip(called, alive, norms, strict=True)]


def _summary(source: SynapticPruner | Summary) -> Summary:
    if isinstance(source, SynapticPruner):
        return source.summary()
    if not isinstance(source, Summary) or not source.survival:
        raise ValueError(f"source={source!r} must be a SynapticPruner or what its summary() returns")
    return source


def _axes(ax: Axes | None) -> Axes:
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
