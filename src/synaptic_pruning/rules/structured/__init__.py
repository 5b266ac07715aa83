"""Structured pruning: whole units, channels, attention heads and input features."""

from synaptic_pruning.rules.structured.inputs import Inputs
from synaptic_pruning.rules.structured.units import Units

__all__ = ["Inputs", "Units"]
