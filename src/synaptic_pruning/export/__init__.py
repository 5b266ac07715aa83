"""A pruned network that leaves really smaller and faster: exact shrinking, sparse kernels, packed files, ONNX."""

from synaptic_pruning.export.choose import CompactReport as CompactReport
from synaptic_pruning.export.choose import compact as compact
from synaptic_pruning.export.shrink import ShrinkReport as ShrinkReport
from synaptic_pruning.export.shrink import shrink as shrink
