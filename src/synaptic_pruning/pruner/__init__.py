"""Attach a rule to a model and its optimizer."""

from synaptic_pruning.pruner.pruner import SynapticPruner, default_rule
from synaptic_pruning.pruner.sparsity_path import SparsityPath

__all__ = ["SparsityPath", "SynapticPruner", "default_rule"]
