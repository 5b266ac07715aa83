"""Build three small forecasters of channel 0: (batch, window, channels) -> (batch, horizon).

Dropout acts in its usual places, through modules that ``eval()`` switches off. The default sizes are
those of the studies that this package compares with: hidden 64, one layer; PatchTST 64 wide, 4 heads, 2 blocks,
feed-forward 256.
"""

from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.tasks.forecasting.windows import Target


class _Recurrent(nn.Module):
    """A recurrent layer, dropout on its last output state, a linear head."""

    cell: type[nn.RNN] | type[nn.LSTM]

    def __init__(
        self,
        *,
        channels: int,
        length: int,
        horizon: int,
        dropout: float = 0.0,
        hidden: int = 64,
        layers: int = 1,
    ) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0  # PyTorch's own dropout acts between layers only
        self.recurrent = self.cell(channels, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return forecasts of shape (batch, horizon) for inputs of shape (batch, window, channels)."""
        states, _ = self.recurrent(inputs)
        forecast: Tensor = self.head(self.dropout(states[:, -1]))
        return forecast


class RNNForecaster(_Recurrent):
    """An Elman network (tanh).

    Example:
        >>> RNNForecaster(channels=3, length=7, horizon=2)(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 2])
    """

    cell = nn.RNN


class LSTMForecaster(_Recurrent):
    """A long short-term memory network.

    Example:
        >>> LSTMForecaster(channels=1, length=7, horizon=1, hidden=8)(torch.zeros(5, 7, 1)).shape
        torch.Size([5, 1])
    """

    cell = nn.LSTM


class _Block(nn.Module):
    """A pre-norm transformer block: self-attention, then feed-forward, each with dropout and a shortcut.

    It uses ``nn.MultiheadAttention``: the fused inference path of ``nn.TransformerEncoderLayer`` skips dropout
    whenever the layer itself is in eval, so Monte-Carlo dropout would silently do nothing.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm_feedforward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm_attention(tokens)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        tokens = tokens + self.dropout(attended)
        hidden = nn.functional.gelu(self.widen(self.norm_feedforward(tokens)))
        output: Tensor = tokens + self.dropout(self.narrow(self.dropout(hidden)))
        return output


class PatchTSTForecaster(nn.Module):
    """A transformer over patches of the target's own history (Nie et al., ICLR 2023, arXiv 2211.14730).

    Channel independence means that the forecast of a channel sees that channel only. Only the target is
    forecast, so only channel 0 is computed. Patches do not overlap: 1, 2, 3 or 4 rows for windows up to 7, 14,
    30 or longer. A window that does not divide is extended at its old end by its first value. Normalisation
    layers are LayerNorm before each part (the paper: BatchNorm after it), so that they do not depend on the
    batch.

    Each window is normalised by its own mean and standard deviation, unless ``length`` is 1. The output is put
    back on that scale. For ``predict="delta"`` the head's zero is persistence and its unit the window's
    deviation, divided by ``unit`` to be in target units. For ``predict="level"`` the window's mean is added back.

    Args:
        channels: Channels of the inputs; all but the first are ignored.
        length: Rows in a window.
        horizon: Rows to forecast.
        dropout: Dropout rate, in [0, 1).
        predict: What the task forecasts; see `make_task`.
        unit: Unit of the task's targets.
        width: Width of a token.
        heads: Attention heads.
        blocks: Transformer blocks.
        feedforward: Width of the feed-forward part.

    Example:
        >>> PatchTSTForecaster(channels=2, length=30, horizon=3)(torch.zeros(5, 30, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        *,
        channels: int,
        length: int,
        horizon: int,
        dropout: float = 0.0,
        predict: Target = "delta",
        unit: float = 1.0,
        width: int = 64,
        heads: int = 4,
        blocks: int = 2,
        feedforward: int = 256,
    ) -> None:
        super().__init__()
        self.patch = 1 if length <= 7 else 2 if length <= 14 else 3 if length <= 30 else 4
        self.normalise = length > 1
        self.predict = predict
        self.unit = unit
        patches = -(-length // self.patch)
        self.padding = patches * self.patch - length
        self.embedding = nn.Linear(self.patch, width)
        self.position = nn.Parameter(torch.empty(patches, width).uniform_(-0.02, 0.02))
        self.blocks = nn.ModuleList(_Block(width, heads, feedforward, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(patches * width, horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return forecasts of shape (batch, horizon) for inputs of shape (batch, window, channels)."""
        history = inputs[..., 0]
        if self.normalise:
            mean = history.mean(1, keepdim=True)
            deviation = (history.var(1, keepdim=True, correction=0) + 1e-10).sqrt()
            history = (history - mean) / deviation
        if self.padding:
            history = torch.cat([history[:, :1].expand(-1, self.padding), history], 1)
        tokens = self.embedding(history.reshape(history.shape[0], -1, self.patch)) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        forecast: Tensor = self.head(self.dropout(self.norm(tokens).flatten(1)))
        if not self.normalise:
            return forecast
        return forecast * deviation / self.unit if self.predict == "delta" else forecast * deviation + mean


MODELS: dict[str, type[nn.Module]] = {
    "rnn": RNNForecaster,
    "lstm": LSTMForecaster,
    "patchtst": PatchTSTForecaster,
}
"""The forecasters by name."""


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
) -> nn.Module:
    """Build a forecaster by name, with weights drawn from the global generator.

    Args:
        name: A name in `MODELS`: ``rnn``, ``lstm`` or ``patchtst``.
        channels: Channels of the inputs, at least 1.
        length: Rows in a window, at least 1.
        horizon: Rows to forecast, at least 1.
        dropout: Dropout rate, in [0, 1).
        predict: What the task forecasts; only models with instance normalisation need it.
        unit: Unit of the task's targets; only models with instance normalisation need it.
        keep: Below 1, build the widest network with at most this share of the default one's weights, biases not
            counted.

    Raises:
        ValueError: The name is unknown, or a size or rate is out of range.

    Example:
        >>> type(build_model("lstm", channels=1, length=7, horizon=1)).__name__
        'LSTMForecaster'
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}.")
    if min(channels, length, horizon) < 1:
        raise ValueError(f"channels={channels}, length={length}, horizon={horizon} must each be at least 1.")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout={dropout} is outside [0, 1); give the share of activations to drop.")
    sizes: dict[str, Any] = {"channels": channels, "length": length, "horizon": horizon, "dropout": dropout}
    if MODELS[name] is PatchTSTForecaster:
        sizes |= {"predict": predict, "unit": unit}
    if keep < 1:
        sizes |= _narrower(MODELS[name], sizes, keep)
    return MODELS[name](**sizes)


def _narrower(kind: type[nn.Module], sizes: dict[str, Any], keep: float) -> dict[str, int]:
    """Return the size arguments of the widest network with at most ``keep`` times the default's weights."""

    def weights(**size: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in kind(**sizes, **size).parameters() if p.dim() > 1)

    most = keep * weights()
    if kind is PatchTSTForecaster:  # four heads of at least one channel
        widths = [{"width": width, "feedforward": 4 * width} for width in range(4, 65, 4)]
    else:
        widths = [{"hidden": hidden} for hidden in range(1, 65)]
    return max(
        (size for size in widths if weights(**size) <= most), key=lambda size: weights(**size), default=widths[0]
    )
