"""Forecast with recurrent networks, with dropout on the last state or locked over a sequence."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _Recurrent(nn.Module):
    """A recurrent layer, dropout on its last output state, a linear head.

    Locked dropout is the variational dropout of Gal & Ghahramani (2016, arXiv 1512.05287): for each sequence one mask
    on the input channels and one on the state that goes back into the layer, both the same at every time step. In an
    LSTM all four gates share them ("tied weights"); its cell state is not dropped. The dropout on the last state
    completes it, since no other state is read. It is not their whole method: weight decay is the optimizer's.

    A single channel gets no mask on its input, for that would blank the whole window; the state's mask stays.
    While the masks act, the layer runs step by step instead of in PyTorch's fused kernel, which cannot take them: an
    LSTM step takes up to 1.6 times as long. Forward hooks on the layer are not called then, so rules that watch
    activity do not see it, and say so.

    Args:
        channels: Channels of the inputs.
        length: Rows in a window; any length works.
        horizon: Rows to forecast.
        dropout: Dropout rate, in [0, 1).
        hidden: Units of a layer.
        layers: Recurrent layers.
        locked: Drop inputs and recurrent connections as well, with masks locked over the sequence; one layer only.

    Raises:
        ValueError: ``locked`` with more than one layer.
    """

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
        locked: bool = False,
    ) -> None:
        super().__init__()
        if locked and layers > 1:
            raise ValueError(f"locked=True with layers={layers} is not supported; take layers=1.")
        between = dropout if layers > 1 else 0.0  # PyTorch's own dropout acts between layers only
        self.recurrent = self.cell(channels, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.locked = nn.Dropout(dropout) if locked else None
        self.masked_inputs = channels if channels > 1 else 0
        self.head = nn.Linear(hidden, horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return forecasts of shape (batch, horizon) for inputs of shape (batch, window, channels)."""
        if self.locked is not None and self.locked.training and self.locked.p > 0:
            last = self._last_state_under_masks(inputs, self.locked)
        else:
            last = self.recurrent(inputs)[0][:, -1]
        forecast: Tensor = self.head(self.dropout(last))
        return forecast

    def _last_state_under_masks(self, inputs: Tensor, dropout: nn.Dropout) -> Tensor:
        masked = self.masked_inputs
        masks = dropout(inputs.new_ones(len(inputs), masked + self.recurrent.hidden_size))
        if masked:
            inputs = inputs * masks[:, None, :masked]
        kept, weights = masks[:, masked:], self.recurrent.all_weights[0]
        state = cell_state = torch.zeros_like(kept)
        for row in inputs.unbind(1):
            state, cell_state = self._step(row, state * kept, cell_state, weights)
        return state

    @staticmethod
    def _step(row: Tensor, state: Tensor, cell_state: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return state and cell state, each of shape (batch, hidden), after one more row."""
        raise NotImplementedError


class RNNForecaster(_Recurrent):
    """An Elman network (tanh); `build_model` names its arguments.

    Example:
        >>> RNNForecaster(channels=3, length=7, horizon=2)(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 2])
    """

    cell = nn.RNN

    @staticmethod
    def _step(row: Tensor, state: Tensor, cell_state: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.rnn_tanh_cell(row, state, *weights), cell_state


class LSTMForecaster(_Recurrent):
    """A long short-term memory network; `build_model` names its arguments.

    Example:
        >>> LSTMForecaster(channels=1, length=7, horizon=1, hidden=8)(torch.zeros(5, 7, 1)).shape
        torch.Size([5, 1])
    """

    cell = nn.LSTM

    @staticmethod
    def _step(row: Tensor, state: Tensor, cell_state: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.lstm_cell(row, (state, cell_state), *weights)
