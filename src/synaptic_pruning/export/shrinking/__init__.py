"""Remove units that cannot change the outputs, so that layers get narrower."""

from synaptic_pruning.export.shrinking.shrink import (
    Inputs,
    ShrinkReport,
    ShrinkRow,
    as_arguments,
    check_runs,
    device_of,
    shrink,
)

__all__ = [
    "Inputs",
    "ShrinkReport",
    "ShrinkRow",
    "as_arguments",
    "check_runs",
    "device_of",
    "shrink",
]
