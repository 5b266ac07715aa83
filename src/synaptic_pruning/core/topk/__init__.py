"""Top-k: the exact k smallest scores over many tensors, whatever their size and however they are sharded."""

from synaptic_pruning.core.topk.blocks import Blocks, lie_whole, smallest_in_blocks
from synaptic_pruning.core.topk.lazy_scores import LazyScores
from synaptic_pruning.core.topk.select import kth_smallest, smallest_k

__all__ = ["Blocks", "LazyScores", "kth_smallest", "lie_whole", "smallest_in_blocks", "smallest_k"]
