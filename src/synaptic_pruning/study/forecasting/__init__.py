"""Compare arms on series: spec, plan, cells, results, report. What needs SciPy and Matplotlib is loaded when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synaptic_pruning.study.forecasting.arms import ARMS, Arm, Grid, Regime, members, stored_name
from synaptic_pruning.study.forecasting.cells import Answer, Cell, CellRecord, CellSettings
from synaptic_pruning.study.forecasting.plan import Plan, expand
from synaptic_pruning.study.forecasting.run import forecast, make_cell_task, read_forecasts, run_cell, run_job

if TYPE_CHECKING:
    from synaptic_pruning.study.forecasting.compare import compare_series, write_results
    from synaptic_pruning.study.forecasting.export_benchmark import Exported, exported
    from synaptic_pruning.study.forecasting.results import COLUMNS, RunRecord, select, to_table
    from synaptic_pruning.study.forecasting.spec import Spec, presets, read_spec

__all__ = [
    "ARMS",
    "COLUMNS",
    "Answer",
    "Arm",
    "Cell",
    "CellRecord",
    "CellSettings",
    "Exported",
    "Grid",
    "Plan",
    "Regime",
    "RunRecord",
    "Spec",
    "compare_series",
    "expand",
    "exported",
    "forecast",
    "make_cell_task",
    "members",
    "presets",
    "read_forecasts",
    "read_spec",
    "run_cell",
    "run_job",
    "select",
    "stored_name",
    "to_table",
    "write_results",
]

_LAZY = {
    "COLUMNS": "results",
    "Exported": "export_benchmark",
    "RunRecord": "results",
    "Spec": "spec",
    "compare_series": "compare",
    "exported": "export_benchmark",
    "presets": "spec",
    "read_spec": "spec",
    "select": "results",
    "to_table": "results",
    "write_results": "compare",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
