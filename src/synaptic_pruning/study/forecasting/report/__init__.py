"""The report on series: verdict, tables, evidence, panels, page."""

from synaptic_pruning.study.forecasting.report.evidence import statistics
from synaptic_pruning.study.forecasting.report.page import Dataset, render, write_report
from synaptic_pruning.study.forecasting.report.verdict import Verdict, contestants, judge

__all__ = ["Dataset", "Verdict", "contestants", "judge", "render", "statistics", "write_report"]
