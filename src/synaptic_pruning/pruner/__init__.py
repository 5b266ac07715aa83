"""Attach a rule to a model and its optimizer."""

from synaptic_pruning.pruner.pruner import SynapticPruner as SynapticPruner
from synaptic_pruning.pruner.pruner import default_rule as default_rule
from synaptic_pruning.pruner.sparsity_path import SparsityPath as SparsityPath
