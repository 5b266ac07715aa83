"""Plot receptive fields of the first layer and idle streaks; the plots need matplotlib."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.rules import Disuse


def receptive_fields(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """Return the weights of the first Linear or Conv2d, summed over channels, shape (units, height, width).

    Raises:
        ValueError: The first such layer does not take images of that shape.

    Example:
        >>> receptive_fields(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), (1, 8, 8)).shape
        torch.Size([5, 8, 8])
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)), None)
    if isinstance(first, nn.Conv2d):
        return first.weight.detach().sum(1)
    if first is None or first.in_features != shape[0] * shape[1] * shape[2]:
        raise ValueError(f"the model's first layer does not look at images of shape={shape}; give the task's shape")
    return first.weight.detach().view(-1, *shape).sum(1)


def plot_receptive_fields(model: nn.Module, shape: tuple[int, int, int], units: int = 25) -> Any:
    """Draw the receptive fields with the most connections left, the strongest first; return the figure."""
    from matplotlib import pyplot

    fields = receptive_fields(model, shape)
    order = (fields != 0).flatten(1).sum(1).argsort(descending=True, stable=True)[:units]
    side = max(1, round(len(order) ** 0.5))
    figure, axes = pyplot.subplots(-(-len(order) // side), side, squeeze=False, figsize=(side, -(-len(order) // side)))
    limit = float(fields.abs().max()) or 1.0
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, unit in zip(axes.flat, order.tolist(), strict=False):
        axis.imshow(fields[unit].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def streak_counts(streaks: Iterable[Tensor]) -> list[int]:
    """Count the connections that have been idle for 0, 1, 2, ... windows, up to the longest streak.

    Example:
        >>> streak_counts([torch.tensor([[0, 2], [0, 0]], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)])
        [3, 0, 2]
    """
    counts = torch.zeros(256, dtype=torch.int64)
    for streak in streaks:
        counts += streak.reshape(-1).to(torch.int64).bincount(minlength=256).cpu()
    longest = int(counts.nonzero().max()) if bool(counts.any()) else -1
    return counts[: longest + 1].tolist()


def plot_streaks(rule: Disuse, ax: Any = None) -> Any:
    """Draw the histogram of idle streaks, alive and pruned connections together; return the axes."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots()[1]
    counts = streak_counts(rule.streaks())
    ax.bar(range(len(counts)), counts, width=1.0)
    ax.axvline(rule.patience - 0.5, color="black", linestyle="--")
    ax.set(xlabel="idle windows in a row", ylabel="connections", yscale="log")
    return ax
