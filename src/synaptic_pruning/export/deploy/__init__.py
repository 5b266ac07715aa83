"""Forms of a network for use outside of the program that trained it: ONNX, C code, one row at a time."""

from synaptic_pruning.export.deploy.c_code import CReport, check_c_path, to_c
from synaptic_pruning.export.deploy.onnx import to_onnx
from synaptic_pruning.export.deploy.streaming import NoStreaming, StreamingStep, streaming

__all__ = [
    "CReport",
    "NoStreaming",
    "StreamingStep",
    "check_c_path",
    "streaming",
    "to_c",
    "to_onnx",
]
