"""Tasks that networks are trained on: forecasting and image classification, and the download of their data."""

from synaptic_pruning.tasks.download import Conversion, File, Progress, fetch, local_folder, locate, read_checked
from synaptic_pruning.tasks.errors import DataError
from synaptic_pruning.tasks.progress import show_progress

__all__ = [
    "Conversion",
    "DataError",
    "File",
    "Progress",
    "fetch",
    "local_folder",
    "locate",
    "read_checked",
    "show_progress",
]
