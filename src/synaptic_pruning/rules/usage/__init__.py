"""Use it or lose it: rules that prune connections by their usage."""

from synaptic_pruning.rules.usage.base import UsageRule
from synaptic_pruning.rules.usage.disuse import Disuse
from synaptic_pruning.rules.usage.survival import Survival

__all__ = ["Disuse", "Survival", "UsageRule"]
