"""Allocation: how many weights of each layer, or of each block of its inputs, are pruned."""

from synaptic_pruning.rules.allocation.layers import erdos_renyi_kernel, round_to_total
from synaptic_pruning.rules.allocation.pattern import Pattern, Patterned

__all__ = ["Pattern", "Patterned", "erdos_renyi_kernel", "round_to_total"]
