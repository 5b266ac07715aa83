"""Series to forecast: reading files, the registry of public data sets, and their download."""

from synaptic_pruning.tasks.forecasting.data.builtin import embedded
from synaptic_pruning.tasks.forecasting.data.features import COVARIATES, calendar, cycles, engineer
from synaptic_pruning.tasks.forecasting.data.loading import Inputs, load
from synaptic_pruning.tasks.forecasting.data.reading import Gaps, continued, frequency, read_csv
from synaptic_pruning.tasks.forecasting.data.registry import DATASETS, SHIPPED, Entry, find_entry
from synaptic_pruning.tasks.forecasting.data.series import Array, Recent, Series, Times

__all__ = [
    "COVARIATES",
    "DATASETS",
    "SHIPPED",
    "Array",
    "Entry",
    "Gaps",
    "Inputs",
    "Recent",
    "Series",
    "Times",
    "calendar",
    "continued",
    "cycles",
    "embedded",
    "engineer",
    "find_entry",
    "frequency",
    "load",
    "read_csv",
]
