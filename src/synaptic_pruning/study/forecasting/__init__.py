"""Compare arms on series: spec, plan, cells, results, report. What needs SciPy and Matplotlib is loaded when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synaptic_pruning.study.forecasting.arms import ARMS, Arm, members
from synaptic_pruning.study.forecasting.cells import (
    BASELINE_CODE,
    TRAINING_CODE,
    Answer,
    Cell,
    CellRecord,
    CellSettings,
)
from synaptic_pruning.study.forecasting.options import Grid, Option, draw
from synaptic_pruning.study.forecasting.plan import (
    Case,
    Plan,
    cases,
    expand,
    expand_baselines,
    expand_chosen,
    in_regime,
)
from synaptic_pruning.study.forecasting.run import (
    build_network,
    count_alive,
    forecast,
    make_cell_task,
    pruner_factory,
    read_forecasts,
    run_cell,
    run_job,
    training_settings,
)

if TYPE_CHECKING:
    from synaptic_pruning.study.forecasting.compare import (
        chosen_options,
        compare_series,
        runs_of,
        train_plan,
        write_results,
    )
    from synaptic_pruning.study.forecasting.results import COLUMNS, RunRecord, choose, select, to_table
    from synaptic_pruning.study.forecasting.spec import Spec, presets, read_spec

__all__ = [
    "ARMS",
    "BASELINE_CODE",
    "COLUMNS",
    "TRAINING_CODE",
    "Answer",
    "Arm",
    "Case",
    "Cell",
    "CellRecord",
    "CellSettings",
    "Grid",
    "Option",
    "Plan",
    "RunRecord",
    "Spec",
    "build_network",
    "cases",
    "choose",
    "chosen_options",
    "compare_series",
    "count_alive",
    "draw",
    "expand",
    "expand_baselines",
    "expand_chosen",
    "forecast",
    "in_regime",
    "make_cell_task",
    "members",
    "presets",
    "pruner_factory",
    "read_forecasts",
    "read_spec",
    "run_cell",
    "run_job",
    "runs_of",
    "select",
    "to_table",
    "train_plan",
    "training_settings",
    "write_results",
]

_LAZY = {
    "COLUMNS": "results",
    "RunRecord": "results",
    "Spec": "spec",
    "choose": "results",
    "chosen_options": "compare",
    "compare_series": "compare",
    "presets": "spec",
    "read_spec": "spec",
    "runs_of": "compare",
    "select": "results",
    "to_table": "results",
    "train_plan": "compare",
    "write_results": "compare",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
