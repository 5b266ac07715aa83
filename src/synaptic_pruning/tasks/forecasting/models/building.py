"""Build a forecaster by name, at its usual size or at a share or multiple of its weights."""

import math
from bisect import bisect_left, bisect_right
from typing import Any

import torch
from torch import nn

from synaptic_pruning.tasks.forecasting.models.mlp import MLPForecaster
from synaptic_pruning.tasks.forecasting.models.patchtst import PatchTSTForecaster
from synaptic_pruning.tasks.forecasting.models.recurrent import LSTMForecaster, RNNForecaster
from synaptic_pruning.tasks.forecasting.windows import Target

MODELS: dict[str, type[nn.Module]] = {
    "rnn": RNNForecaster,
    "lstm": LSTMForecaster,
    "patchtst": PatchTSTForecaster,
    "mlp": MLPForecaster,
}
"""The forecasters by name."""
_RECURRENT = ("rnn", "lstm")
_WIDTH = 64
_HEADS = 4


def build_model(
    name: str,
    *,
    channels: int,
    length: int,
    horizon: int,
    dropout: float = 0.0,
    predict: Target = "delta",
    unit: float = 1.0,
    keep: float = 1.0,
    locked: bool = False,
) -> nn.Module:
    """Build a forecaster by name, with weights drawn from the global generator.

    Args:
        name: A name in `MODELS`: ``rnn``, ``lstm``, ``patchtst`` or ``mlp``.
        channels: Channels of the inputs, at least 1.
        length: Rows in a window, at least 1.
        horizon: Rows to forecast, at least 1.
        dropout: Dropout rate, in [0, 1).
        predict: What the task forecasts; only models with instance normalisation need it.
        unit: Unit of the task's targets; only models with instance normalisation need it.
        keep: Wanted share of the default network's weights, above 0, biases not counted. Below 1, build the widest
            network with at most so many; above 1, the narrowest with at least so many.
        locked: Variational dropout for ``rnn`` and ``lstm`` (Gal & Ghahramani, 2016): ``dropout`` acts on the input
            channels and on the recurrent connections as well, with one mask for all time steps of a sequence. A single
            channel is not masked, for that would blank the window. Rules that watch activity do not see such a layer.

    Raises:
        ValueError: The name is unknown, a size or rate is out of range, or ``locked`` has nothing to lock.

    Example:
        >>> type(build_model("lstm", channels=1, length=7, horizon=1)).__name__
        'LSTMForecaster'
        >>> wide = build_model("rnn", channels=1, length=7, horizon=1, keep=5)    # 5 times 4,224 weights, or just above
        >>> sum(parameter.numel() for parameter in wide.parameters() if parameter.dim() > 1)
        21315
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}.")
    if min(channels, length, horizon) < 1:
        raise ValueError(f"channels={channels}, length={length}, horizon={horizon} must each be at least 1.")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout={dropout} is outside [0, 1); give the share of activations to drop.")
    if not 0.0 < keep < math.inf:
        raise ValueError(f"keep={keep} must be above 0 and finite; give a share of the default network's weights.")
    if locked and name not in _RECURRENT:
        raise ValueError(f"locked=True needs a recurrent model, not {name!r}; choose from {', '.join(_RECURRENT)}.")
    sizes: dict[str, Any] = {"channels": channels, "length": length, "horizon": horizon, "dropout": dropout}
    if MODELS[name] is PatchTSTForecaster:
        sizes |= {"predict": predict, "unit": unit}
    if locked:
        sizes |= {"locked": True}
    if keep != 1:
        sizes |= _resized(MODELS[name], sizes, keep)
    return MODELS[name](**sizes)


def _resized(kind: type[nn.Module], sizes: dict[str, Any], keep: float) -> dict[str, int]:
    """Return the size arguments of the network with ``keep`` times the default's weights, or the next step.

    Weights grow with the width, and at least in proportion to it.
    """

    def size(width: int) -> dict[str, int]:
        return {"width": width, "feedforward": 4 * width} if kind is PatchTSTForecaster else {"hidden": width}

    def weights(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in kind(**sizes, **size(width)).parameters() if p.dim() > 1)

    step = _HEADS if kind is PatchTSTForecaster else 1  # every head needs a channel
    widths = range(step, _WIDTH * max(1, math.ceil(keep)) + 1, step)
    wanted = keep * weights(_WIDTH)
    if keep > 1:
        return size(widths[bisect_left(widths, wanted, key=weights)])
    return size(widths[max(0, bisect_right(widths, wanted, key=weights) - 1)])
