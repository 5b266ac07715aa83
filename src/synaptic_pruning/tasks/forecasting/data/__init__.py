"""Series to forecast: reading files, the registry of public data sets, and their download."""

from synaptic_pruning.tasks.forecasting.data.builtin import embedded
from synaptic_pruning.tasks.forecasting.data.features import COVARIATES, engineer
from synaptic_pruning.tasks.forecasting.data.loading import Inputs, load
from synaptic_pruning.tasks.forecasting.data.reading import Gaps, read_csv
from synaptic_pruning.tasks.forecasting.data.registry import DATASETS, Entry, find_entry
from synaptic_pruning.tasks.forecasting.data.series import Array, Series, Times

__all__ = [
    "COVARIATES",
    "DATASETS",
    "Array",
    "Entry",
    "Gaps",
    "Inputs",
    "Series",
    "Times",
    "embedded",
    "engineer",
    "find_entry",
    "load",
    "read_csv",
]
