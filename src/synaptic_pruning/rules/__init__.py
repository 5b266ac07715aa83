"""Rules: which weights are pruned and grown, and when."""

from synaptic_pruning.rules import scores
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.dynamic import SET, Cycles, GraNet, RigL
from synaptic_pruning.rules.schedules import Schedule, cubic, cubic_ease_in, linear, one_shot
from synaptic_pruning.rules.structured import Inputs, Units
from synaptic_pruning.rules.to_sparsity import ToSparsity
from synaptic_pruning.rules.usage import Disuse, Survival
from synaptic_pruning.rules.vos2025 import vos2025

__all__ = [
    "SET",
    "Cycles",
    "Disuse",
    "GraNet",
    "Inputs",
    "RigL",
    "Rule",
    "Schedule",
    "Survival",
    "ToSparsity",
    "Units",
    "cubic",
    "cubic_ease_in",
    "linear",
    "one_shot",
    "scores",
    "vos2025",
]
