"""Time-series forecasting without leaks: data, windows, small networks, metrics, baselines, training."""

from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.forecasting.baselines import (
    BASELINES,
    Forecasts,
    auto_ets,
    baseline_forecasts,
    lightgbm,
    ridge,
)
from synaptic_pruning.tasks.forecasting.batched_training import train_together
from synaptic_pruning.tasks.forecasting.batches import predict
from synaptic_pruning.tasks.forecasting.data import (
    COVARIATES,
    DATASETS,
    Array,
    Entry,
    Recent,
    Series,
    Times,
    continued,
    embedded,
    engineer,
    find_entry,
    frequency,
    load,
    read_csv,
)
from synaptic_pruning.tasks.forecasting.metrics import (
    denominators,
    mean_absolute_error,
    persistence,
    score,
    scores,
    seasonal_naive,
)
from synaptic_pruning.tasks.forecasting.models import (
    MODELS,
    LSTMForecaster,
    MLPForecaster,
    PatchTSTForecaster,
    RNNForecaster,
    build_model,
)
from synaptic_pruning.tasks.forecasting.paper_protocol import make_leaking_task
from synaptic_pruning.tasks.forecasting.training import LearningRate, Settings, Training, train
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask, Scaler, Target, Windows, assemble, make_task
from synaptic_pruning.tasks.training import Attach

__all__ = [
    "BASELINES",
    "COVARIATES",
    "DATASETS",
    "MODELS",
    "Array",
    "Attach",
    "DataError",
    "Entry",
    "ForecastingTask",
    "Forecasts",
    "LSTMForecaster",
    "LearningRate",
    "MLPForecaster",
    "PatchTSTForecaster",
    "RNNForecaster",
    "Recent",
    "Scaler",
    "Series",
    "Settings",
    "Target",
    "Times",
    "Training",
    "Windows",
    "assemble",
    "auto_ets",
    "baseline_forecasts",
    "build_model",
    "continued",
    "denominators",
    "embedded",
    "engineer",
    "find_entry",
    "frequency",
    "lightgbm",
    "load",
    "make_leaking_task",
    "make_task",
    "mean_absolute_error",
    "persistence",
    "predict",
    "read_csv",
    "ridge",
    "score",
    "scores",
    "seasonal_naive",
    "train",
    "train_together",
]
