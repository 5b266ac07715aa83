"""Networks that prune themselves while they train, in place of dropout."""

from typing import TYPE_CHECKING

from synaptic_pruning.core.summary import Summary as Summary
from synaptic_pruning.core.synapses import Synapses as Synapses
from synaptic_pruning.dropout import monte_carlo_dropout as monte_carlo_dropout
from synaptic_pruning.dropout import set_dropout as set_dropout
from synaptic_pruning.pruner.pruner import SynapticPruner as SynapticPruner
from synaptic_pruning.pruner.pruner import default_rule as default_rule
from synaptic_pruning.pruner.sparsity_path import SparsityPath as SparsityPath
from synaptic_pruning.rules import scores as scores
from synaptic_pruning.rules.base import Rule as Rule
from synaptic_pruning.rules.dynamic.cycles import Cycles as Cycles
from synaptic_pruning.rules.dynamic.random_growth import SET as SET
from synaptic_pruning.rules.dynamic.random_growth import GraNet as GraNet
from synaptic_pruning.rules.dynamic.random_growth import RigL as RigL
from synaptic_pruning.rules.schedules import Schedule as Schedule
from synaptic_pruning.rules.schedules import cubic as cubic
from synaptic_pruning.rules.schedules import cubic_ease_in as cubic_ease_in
from synaptic_pruning.rules.schedules import linear as linear
from synaptic_pruning.rules.schedules import one_shot as one_shot
from synaptic_pruning.rules.structured import Units as Units
from synaptic_pruning.rules.to_sparsity import ToSparsity as ToSparsity
from synaptic_pruning.rules.usage.disuse import Disuse as Disuse
from synaptic_pruning.rules.usage.survival import Survival as Survival
from synaptic_pruning.rules.vos2025 import vos2025 as vos2025

if TYPE_CHECKING:
    from synaptic_pruning import export as export

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "export":  # loaded when first used: most programs train and never export
        import importlib

        return importlib.import_module("synaptic_pruning.export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
