"""Forecast with a transformer over patches of the window."""

import torch
from torch import Tensor, nn

from synaptic_pruning.tasks.forecasting.windows import Target


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
    """A transformer over patches of the window, all channels of a patch in one token.

    With one channel it is the network of Nie et al. (ICLR 2023, arXiv 2211.14730), made smaller. With more, it is
    the one of the code released with Vos et al. (arXiv 2508.09330): a token is the patch of every channel, flattened,
    so the network mixes channels. The paper of Nie et al. keeps channels independent instead. Patches do not overlap:
    1, 2, 3 or 4 rows for windows up to 7, 14, 30 or longer. A window that does not divide is extended at its old end
    by its first row. Normalisation layers are LayerNorm before each part (the paper: BatchNorm after it), so that
    they do not depend on the batch.

    In each window the target is normalised by its own mean and standard deviation, unless ``length`` is 1. The output
    is put back on that scale. For ``predict="delta"`` the head's zero is persistence and its unit the window's
    deviation, divided by ``unit`` to be in target units. For ``predict="level"`` the window's mean is added back. The
    other channels stay as the task scaled them: what is constant in a window would vanish otherwise, such as the hour
    or a long mean, and from them the network may still see the level that the target has lost.

    Args:
        channels: Channels of the inputs; the first is the target.
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
        self.embedding = nn.Linear(self.patch * channels, width)
        self.position = nn.Parameter(torch.empty(patches, width).uniform_(-0.02, 0.02))
        self.blocks = nn.ModuleList(_Block(width, heads, feedforward, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(patches * width, horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return forecasts of shape (batch, horizon) for inputs of shape (batch, window, channels)."""
        if self.normalise:
            history = inputs[..., 0]
            mean = history.mean(1, keepdim=True)
            deviation = (history.var(1, keepdim=True, correction=0) + 1e-10).sqrt()
            target = ((history - mean) / deviation)[..., None]
            inputs = torch.cat([target, inputs[..., 1:]], 2)
        if self.padding:
            inputs = torch.cat([inputs[:, :1].expand(-1, self.padding, -1), inputs], 1)
        patches = inputs.reshape(inputs.shape[0], len(self.position), -1)  # rows of a patch, all channels of each
        tokens = self.embedding(patches) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        forecast: Tensor = self.head(self.dropout(self.norm(tokens).flatten(1)))
        if not self.normalise:
            return forecast
        return forecast * deviation / self.unit if self.predict == "delta" else forecast * deviation + mean
