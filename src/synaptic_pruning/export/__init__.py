"""Pruned networks, really smaller and faster: exact shrinking, sparse kernels, packed files, ONNX."""

from synaptic_pruning.export.choose import CompactReport as CompactReport
from synaptic_pruning.export.choose import compact as compact
from synaptic_pruning.export.inspection import FileReport as FileReport
from synaptic_pruning.export.inspection import inspect_file as inspect_file
from synaptic_pruning.export.onnx import to_onnx as to_onnx
from synaptic_pruning.export.shrink import ShrinkReport as ShrinkReport
from synaptic_pruning.export.shrink import shrink as shrink
from synaptic_pruning.export.storage import FileError as FileError
from synaptic_pruning.export.storage import load as load
from synaptic_pruning.export.storage import save as save
