"""CSV and Parquet files as series: structure, numbers, dates and gaps, each decided in one place."""

from synaptic_pruning.tasks.forecasting.data.reading.csv_reader import read_csv
from synaptic_pruning.tasks.forecasting.data.reading.dates import ParsedTimes, parse_times
from synaptic_pruning.tasks.forecasting.data.reading.frequency import continued, frequency
from synaptic_pruning.tasks.forecasting.data.reading.timestamps import Gaps

__all__ = ["Gaps", "ParsedTimes", "continued", "frequency", "parse_times", "read_csv"]
