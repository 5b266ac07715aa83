"""Small forecasters of channel 0: (batch, window, channels) -> (batch, horizon).

Dropout acts in its usual places, through modules that ``eval()`` switches off. The default sizes are
those of the studies that this package compares with: hidden 64, one layer (MLP: two); PatchTST 64 wide, 4 heads,
2 blocks, feed-forward 256.
"""

from synaptic_pruning.tasks.forecasting.models.building import MODELS, build_model
from synaptic_pruning.tasks.forecasting.models.mlp import MLPForecaster
from synaptic_pruning.tasks.forecasting.models.patchtst import PatchTSTForecaster
from synaptic_pruning.tasks.forecasting.models.recurrent import LSTMForecaster, RNNForecaster

__all__ = [
    "MODELS",
    "LSTMForecaster",
    "MLPForecaster",
    "PatchTSTForecaster",
    "RNNForecaster",
    "build_model",
]
