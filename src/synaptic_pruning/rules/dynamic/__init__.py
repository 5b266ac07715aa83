"""Dynamic sparse training: rules that prune weak connections and grow others."""

from synaptic_pruning.rules.dynamic.cycles import Cycles
from synaptic_pruning.rules.dynamic.gradient_growth import RigL
from synaptic_pruning.rules.dynamic.granet import GraNet
from synaptic_pruning.rules.dynamic.random_growth import SET

__all__ = ["SET", "Cycles", "GraNet", "RigL"]
