"""The report on series: verdict, tables, evidence, panels, page."""

from synaptic_pruning.study.forecasting.report.declared import declared
from synaptic_pruning.study.forecasting.report.evidence import statistics
from synaptic_pruning.study.forecasting.report.export_benchmark import Exported, exported
from synaptic_pruning.study.forecasting.report.page import Dataset, render, write_report
from synaptic_pruning.study.forecasting.report.verdict import Verdict, contestants, judge

__all__ = [
    "Dataset",
    "Exported",
    "Verdict",
    "contestants",
    "declared",
    "exported",
    "judge",
    "render",
    "statistics",
    "write_report",
]
