"""CPU kernels compiled by Numba, the only folder that imports it.

Importing this face loads Numba, so callers import it inside functions. Kernels know arrays and sizes, no modules.
They take weights as flat positional arrays. A call with 16 arrays took 1.3 µs that way, with NamedTuples of the
same arrays 5 to 8 µs.
"""

from synaptic_pruning.export.kernels.attention import attend
from synaptic_pruning.export.kernels.layouts import Slices, Tiles, pool, to_slices, to_tiles
from synaptic_pruning.export.kernels.matmul import lookup_rows, tile_rows
from synaptic_pruning.export.kernels.recurrent import GRU, LSTM, RELU, TANH, recurrent_tile, run_stack, stack_table
from synaptic_pruning.export.kernels.simd import BLOCK
from synaptic_pruning.export.kernels.transformer import transformer_block

__all__ = [
    "BLOCK",
    "GRU",
    "LSTM",
    "RELU",
    "TANH",
    "Slices",
    "Tiles",
    "attend",
    "lookup_rows",
    "pool",
    "recurrent_tile",
    "run_stack",
    "stack_table",
    "tile_rows",
    "to_slices",
    "to_tiles",
    "transformer_block",
]
