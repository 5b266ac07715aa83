"""Forecast with a multilayer perceptron over the flattened window."""

from torch import Tensor, nn


class MLPForecaster(nn.Module):
    """Two hidden layers (ReLU) over all rows and channels of a window at once, dropout after each.

    Args:
        channels: Channels of the inputs.
        length: Rows in a window.
        horizon: Rows to forecast.
        dropout: Dropout rate, in [0, 1).
        hidden: Units of each hidden layer.

    Example:
        >>> import torch
        >>> MLPForecaster(channels=3, length=7, horizon=2)(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, *, channels: int, length: int, horizon: int, dropout: float = 0.0, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(length * channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, horizon),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return forecasts of shape (batch, horizon) for inputs of shape (batch, window, channels)."""
        forecast: Tensor = self.layers(inputs)
        return forecast
