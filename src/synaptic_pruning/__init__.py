"""Networks that prune themselves while they train, in place of dropout."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synaptic_pruning import export as export
    from synaptic_pruning.core import Summary, Synapses
    from synaptic_pruning.dropout import monte_carlo_dropout, set_dropout
    from synaptic_pruning.integrations import plot as plot
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
    # Pictures, by matplotlib
    "plot",
]


_ROOMS = ("rules", "pruner", "core", "dropout")


def __getattr__(name: str) -> object:
    """Load a name when it is first used: PyTorch takes seconds, and `--help` needs none of it."""
    if name in ("export", *_ROOMS):
        return importlib.import_module(f"{__name__}.{name}")
    if name == "plot":
        return importlib.import_module(f"{__name__}.integrations.plot")
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(f"{__name__}.{room}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
