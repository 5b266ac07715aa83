"""Inference modules that keep only the non-zero weights of a layer and compute on a CPU."""

from synaptic_pruning.export.sparse.attention import FastAttention
from synaptic_pruning.export.sparse.base import Inference
from synaptic_pruning.export.sparse.forecaster import FastForecaster
from synaptic_pruning.export.sparse.forecaster_match import ForecasterParts, match_forecaster
from synaptic_pruning.export.sparse.linear import SparseConv, SparseLinear
from synaptic_pruning.export.sparse.matrix import SparseMatrix, kernels_available
from synaptic_pruning.export.sparse.recurrent import SparseRecurrent
from synaptic_pruning.export.sparse.transformer import FastBlock
from synaptic_pruning.export.sparse.transformer_match import BlockParts, match_block

__all__ = [
    "BlockParts",
    "FastAttention",
    "FastBlock",
    "FastForecaster",
    "ForecasterParts",
    "Inference",
    "SparseConv",
    "SparseLinear",
    "SparseMatrix",
    "SparseRecurrent",
    "kernels_available",
    "match_block",
    "match_forecaster",
]
