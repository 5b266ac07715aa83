"""Prunable parameters, their masks and statistics; knows no rule and no optimizer, and imports torch alone."""

from synaptic_pruning.core.history import History
from synaptic_pruning.core.masks import nonzero_pruned, pack, to_integers, unpack, zero_pruned_
from synaptic_pruning.core.parameter import PrunableParameter
from synaptic_pruning.core.prunable import find_parameter, is_input_first, unwrap
from synaptic_pruning.core.sharding import Shard, count_true, gather, local, total
from synaptic_pruning.core.summary import Summary
from synaptic_pruning.core.synapses import Synapses

__all__ = [
    "History",
    "PrunableParameter",
    "Shard",
    "Summary",
    "Synapses",
    "count_true",
    "find_parameter",
    "gather",
    "is_input_first",
    "local",
    "nonzero_pruned",
    "pack",
    "to_integers",
    "total",
    "unpack",
    "unwrap",
    "zero_pruned_",
]
