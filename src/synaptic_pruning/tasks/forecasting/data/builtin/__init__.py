"""Series at hand without a download: those of statsmodels, and the first rows of a dozen public ones in `series/`."""

from synaptic_pruning.tasks.forecasting.data.builtin.embedded import embedded
from synaptic_pruning.tasks.forecasting.data.builtin.shipped import shipped_file

__all__ = ["embedded", "shipped_file"]
