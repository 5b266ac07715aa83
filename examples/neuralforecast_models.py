"""NeuralForecast: the callback goes to the model, which hands it to its Trainer.

Needs: pip install 'synaptic-pruning[lightning]' neuralforecast
"""

import numpy as np
import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM

from synaptic_pruning.integrations.lightning import SynapticPruning, find_pruner

days = pd.date_range("2020-01-01", periods=200)
waves = np.sin(np.arange(200) / 7) + 0.1 * np.random.default_rng(0).normal(size=200)
frame = pd.DataFrame({"unique_id": "wave", "ds": days, "y": waves})

model = LSTM(
    h=7,
    input_size=28,
    encoder_hidden_size=32,
    encoder_dropout=0.0,
    max_steps=100,
    callbacks=[SynapticPruning()],
    accelerator="cpu",
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
forecaster = NeuralForecast(models=[model], freq="D")
forecaster.fit(frame)
print(forecaster.predict())
print(find_pruner(forecaster.models[0]).summary())
