"""Lay the non-zero weights of a matrix out in memory as each kernel reads them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synaptic_pruning.export.kernels.matmul import TILE_BLOCK
from synaptic_pruning.export.kernels.simd import BLOCK, LANES

Index = NDArray[np.int32]
Values = NDArray[np.float32]


class Slices(NamedTuple):
    """Rows sorted by length, LANES rows a slice, each slice cut in blocks of BLOCK inputs.

    In one block of one slice every row is padded with zeros to the longest of them. Step k of that block
    holds the k-th weight of each row, lane by lane.

    Attributes:
        starts: First step of each block of each slice, block innermost, and the number of all steps at the end.
        values: Weights (steps · LANES).
        columns: Position of each weight's input within its block (steps · LANES).
        order: The row in each lane (rows).
    """

    starts: Index
    values: Values
    columns: NDArray[np.uint8]
    order: Index


class Tiles(NamedTuple):
    """Compressed sparse rows of each block of TILE_BLOCK inputs.

    Attributes:
        starts: First weight of each row of each block, row innermost, and the number of all weights at the end.
        values: Weights.
        columns: Position of each weight's input within its block.
    """

    starts: Index
    values: Values
    columns: NDArray[np.uint8]


def to_slices(row_starts: Index, columns: Index, values: Values, inputs: int) -> Slices:
    """Return compressed sparse rows in the layout of the lookup kernel."""
    lengths = np.diff(row_starts)
    rows, blocks = lengths.size, -(-inputs // BLOCK)
    slices = -(-rows // LANES)
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)

    run = np.repeat(place, lengths) * blocks + columns // BLOCK  # the (row, block) of each weight
    within = _position_in_run(run)
    counts = np.bincount(run, minlength=slices * LANES * blocks).reshape(slices, LANES, blocks)
    starts = np.concatenate([[0], counts.max(1, initial=0).ravel().cumsum()])
    lane, group = run // blocks % LANES, run // blocks // LANES * blocks + run % blocks
    at = (starts[group] + within) * LANES + lane

    packed = np.zeros(int(starts[-1]) * LANES, np.float32)
    packed[at] = values
    inside = np.zeros(packed.size, np.uint8)
    inside[at] = columns % BLOCK
    return Slices(starts.astype(np.int32), packed, inside, order)


def to_tiles(row_starts: Index, columns: Index, values: Values, inputs: int) -> Tiles:
    """Return compressed sparse rows in the layout of the tile kernel."""
    rows, blocks = row_starts.size - 1, -(-inputs // TILE_BLOCK)
    run = columns // TILE_BLOCK * rows + np.repeat(np.arange(rows), np.diff(row_starts))
    by_block = np.argsort(run, kind="stable")
    starts = np.concatenate([[0], np.bincount(run, minlength=rows * blocks).cumsum()])
    return Tiles(starts.astype(np.int32), values[by_block], (columns[by_block] % TILE_BLOCK).astype(np.uint8))


def _position_in_run(run: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2, … within each run of equal numbers."""
    places = np.arange(run.size)
    begins = np.concatenate([[True], run[1:] != run[:-1]]) if run.size else np.zeros(0, bool)
    return places - np.maximum.accumulate(np.where(begins, places, 0))
