"""Compare arms on images: plan, cells, tables, plots, report. What needs SciPy and Matplotlib is loaded when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synaptic_pruning.study.classification.arms import ARMS, SPARSITY, Arm
from synaptic_pruning.study.classification.cells import (
    TRAINING_CODE,
    ImageCell,
    ImageRecord,
    ImageSet,
    ImageSettings,
    run_image_cell,
)
from synaptic_pruning.study.classification.plan import ImagePlan

if TYPE_CHECKING:
    from synaptic_pruning.study.classification.compare import compare_images
    from synaptic_pruning.study.classification.results import paired, summary_rows, to_table
    from synaptic_pruning.study.classification.verdict import judge

__all__ = [
    "ARMS",
    "SPARSITY",
    "TRAINING_CODE",
    "Arm",
    "ImageCell",
    "ImagePlan",
    "ImageRecord",
    "ImageSet",
    "ImageSettings",
    "compare_images",
    "judge",
    "paired",
    "run_image_cell",
    "summary_rows",
    "to_table",
]

_LAZY = {
    "compare_images": "compare",
    "judge": "verdict",
    "paired": "results",
    "summary_rows": "results",
    "to_table": "results",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
