"""Read and write packed files: safetensors with a bit mask and the non-zero values of each pruned weight."""

from synaptic_pruning.export.packed.header import FileError
from synaptic_pruning.export.packed.inspection import FileReport, FileRow, inspect_file
from synaptic_pruning.export.packed.packed_file import load, read, save, save_state
from synaptic_pruning.export.packed.state_file import read_state

__all__ = [
    "FileError",
    "FileReport",
    "FileRow",
    "inspect_file",
    "load",
    "read",
    "read_state",
    "save",
    "save_state",
]
