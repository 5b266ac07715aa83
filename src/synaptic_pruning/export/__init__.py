"""Pruned networks, really smaller and faster: exact shrinking, sparse kernels, packed files, ONNX."""

from synaptic_pruning.export.autotune import CompactReport as CompactReport
from synaptic_pruning.export.autotune import compact as compact
from synaptic_pruning.export.onnx import to_onnx as to_onnx
from synaptic_pruning.export.packed.header import FileError as FileError
from synaptic_pruning.export.packed.inspection import FileReport as FileReport
from synaptic_pruning.export.packed.inspection import inspect_file as inspect_file
from synaptic_pruning.export.packed.packed_file import load as load
from synaptic_pruning.export.packed.packed_file import read as read
from synaptic_pruning.export.packed.packed_file import save as save
from synaptic_pruning.export.shrinking.shrink import ShrinkReport as ShrinkReport
from synaptic_pruning.export.shrinking.shrink import shrink as shrink
