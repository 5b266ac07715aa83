"""Time-series forecasting without leaks: data, windows, small networks, metrics, baselines, training."""

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.baselines import persistence, seasonal_naive
from synaptic_pruning.tasks.forecasting.batched_training import train_together
from synaptic_pruning.tasks.forecasting.batches import predict
from synaptic_pruning.tasks.forecasting.data.builtin import embedded
from synaptic_pruning.tasks.forecasting.data.csv_reader import read_csv
from synaptic_pruning.tasks.forecasting.data.loading import load
from synaptic_pruning.tasks.forecasting.data.registry import DATASETS, Entry
from synaptic_pruning.tasks.forecasting.data.series import Series
from synaptic_pruning.tasks.forecasting.metrics import denominators, mean_absolute_error, score, scores
from synaptic_pruning.tasks.forecasting.models import (
    MODELS,
    LSTMForecaster,
    PatchTSTForecaster,
    RNNForecaster,
    build_model,
)
from synaptic_pruning.tasks.forecasting.paper_protocol import make_leaking_task
from synaptic_pruning.tasks.forecasting.training import LearningRate, Settings, Training, train
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Target, Windows, make_task
from synaptic_pruning.tasks.training import Attach

__all__ = [
    "DATASETS",
    "MODELS",
    "Attach",
    "DataError",
    "Entry",
    "ForecastingTask",
    "LSTMForecaster",
    "LearningRate",
    "PatchTSTForecaster",
    "RNNForecaster",
    "Series",
    "Settings",
    "Target",
    "Training",
    "Windows",
    "build_model",
    "denominators",
    "embedded",
    "load",
    "make_leaking_task",
    "make_task",
    "mean_absolute_error",
    "persistence",
    "predict",
    "read_csv",
    "score",
    "scores",
    "seasonal_naive",
    "train",
    "train_together",
]
