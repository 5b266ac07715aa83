"""Activity: the mean absolute input of every connection while a network trains."""

from synaptic_pruning.core.activity.monitor import ActivityMonitor, expand_activity, usage, warn_unobserved

__all__ = ["ActivityMonitor", "expand_activity", "usage", "warn_unobserved"]
