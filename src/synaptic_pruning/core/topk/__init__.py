"""Top-k: the exact k smallest scores over many tensors, whatever their size and however they are sharded."""

from synaptic_pruning.core.topk.lazy_scores import LazyScores
from synaptic_pruning.core.topk.select import kth_smallest, smallest_k

__all__ = ["LazyScores", "kth_smallest", "smallest_k"]
