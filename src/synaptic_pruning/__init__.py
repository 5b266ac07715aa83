"""Networks that prune themselves while they train, in place of dropout."""

from typing import TYPE_CHECKING

from synaptic_pruning.core import Summary, Synapses
from synaptic_pruning.dropout import monte_carlo_dropout, set_dropout
from synaptic_pruning.pruner import SparsityPath, SynapticPruner, default_rule
from synaptic_pruning.rules import (
    SET,
    Cycles,
    Disuse,
    GraNet,
    Inputs,
    RigL,
    Rule,
    Schedule,
    Survival,
    ToSparsity,
    Units,
    cubic,
    cubic_ease_in,
    linear,
    one_shot,
    scores,
    vos2025,
)

if TYPE_CHECKING:
    from synaptic_pruning import export as export

__version__ = "0.1.0"

__all__ = [
    # Attach a rule to a model and its optimizer
    "SynapticPruner",
    "default_rule",
    "Synapses",
    "Summary",
    "SparsityPath",
    # Rules: which weights are pruned and grown, and when
    "Rule",
    "ToSparsity",
    "Units",
    "Inputs",
    "SET",
    "RigL",
    "GraNet",
    "Cycles",
    "Disuse",
    "Survival",
    "vos2025",
    # Schedules and scores
    "Schedule",
    "cubic",
    "cubic_ease_in",
    "linear",
    "one_shot",
    "scores",
    # Dropout, to compare with
    "set_dropout",
    "monte_carlo_dropout",
    # Smaller and faster networks
    "export",
]


def __getattr__(name: str) -> object:
    if name == "export":  # loaded when first used: most programs train and never export
        import importlib

        return importlib.import_module("synaptic_pruning.export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
