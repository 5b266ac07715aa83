"""Export pruned networks: exact shrinking, sparse CPU kernels, packed files, ONNX.

Export reads exact zeros in the weights, never a mask. A weight counts as pruned exactly if it is 0, whatever
made it 0; no pruner has to be at hand. A grown weight that is still zero therefore counts as pruned in a file,
though its pruner's mask says alive. Outputs do not depend on it. To go on training with the same masks, keep the
pruner's own ``state_dict`` beside the file.

The parts:

- `compact` times every layer dense and sparse on this machine and keeps the fastest form.
- `shrink` removes units that cannot change the outputs, so that layers get narrower.
- `save`, `load`, `read` and `inspect_file` handle files that store non-zero weights only.
- `streaming` runs a recurrent network one row at a time.
- `to_c` writes a C file that needs nothing but a compiler.
- `to_onnx` writes the shrunk network and checks it in ONNX Runtime.

Importing this package loads neither Numba nor ONNX Runtime; the first call that needs one does.
"""

from synaptic_pruning.export.autotune import CompactReport, compact
from synaptic_pruning.export.deploy import CReport, NoStreaming, StreamingStep, streaming, to_c, to_onnx
from synaptic_pruning.export.packed import FileError, FileReport, inspect_file, load, read, save
from synaptic_pruning.export.shrinking import ShrinkReport, shrink

__all__ = [
    "CReport",
    "CompactReport",
    "FileError",
    "FileReport",
    "NoStreaming",
    "ShrinkReport",
    "StreamingStep",
    "compact",
    "inspect_file",
    "load",
    "read",
    "save",
    "shrink",
    "streaming",
    "to_c",
    "to_onnx",
]
