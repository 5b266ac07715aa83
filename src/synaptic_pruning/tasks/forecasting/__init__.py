"""Time-series forecasting without leaks: data, windows, small networks, baselines, metrics, training."""

from .baselines import persistence as persistence
from .baselines import seasonal_naive as seasonal_naive
from .batches import predict as predict
from .datasets import embedded as embedded
from .loading import load as load
from .metrics import score as score
from .models import MODELS as MODELS
from .models import LSTMForecaster as LSTMForecaster
from .models import PatchTSTForecaster as PatchTSTForecaster
from .models import RNNForecaster as RNNForecaster
from .models import build_model as build_model
from .readers import read_csv as read_csv
from .registry import DATASETS as DATASETS
from .registry import Entry as Entry
from .series import DataError as DataError
from .series import Series as Series
from .training import Training as Training
from .training import train as train
from .windows import ForecastingTask as ForecastingTask
from .windows import Windows as Windows
from .windows import make_task as make_task
