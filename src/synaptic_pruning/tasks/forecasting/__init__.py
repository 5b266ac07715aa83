"""Time-series forecasting without leaks: data, windows, small networks, baselines, metrics, training."""

from synaptic_pruning.tasks.forecasting.baselines import persistence as persistence
from synaptic_pruning.tasks.forecasting.baselines import seasonal_naive as seasonal_naive
from synaptic_pruning.tasks.forecasting.batches import predict as predict
from synaptic_pruning.tasks.forecasting.data.builtin import embedded as embedded
from synaptic_pruning.tasks.forecasting.data.csv_reader import read_csv as read_csv
from synaptic_pruning.tasks.forecasting.data.loading import load as load
from synaptic_pruning.tasks.forecasting.data.registry import DATASETS as DATASETS
from synaptic_pruning.tasks.forecasting.data.registry import Entry as Entry
from synaptic_pruning.tasks.forecasting.data.series import DataError as DataError
from synaptic_pruning.tasks.forecasting.data.series import Series as Series
from synaptic_pruning.tasks.forecasting.metrics import score as score
from synaptic_pruning.tasks.forecasting.models import MODELS as MODELS
from synaptic_pruning.tasks.forecasting.models import LSTMForecaster as LSTMForecaster
from synaptic_pruning.tasks.forecasting.models import PatchTSTForecaster as PatchTSTForecaster
from synaptic_pruning.tasks.forecasting.models import RNNForecaster as RNNForecaster
from synaptic_pruning.tasks.forecasting.models import build_model as build_model
from synaptic_pruning.tasks.forecasting.training import Training as Training
from synaptic_pruning.tasks.forecasting.training import train as train
from synaptic_pruning.tasks.forecasting.windows import ForecastingTask as ForecastingTask
from synaptic_pruning.tasks.forecasting.windows import Windows as Windows
from synaptic_pruning.tasks.forecasting.windows import make_task as make_task
