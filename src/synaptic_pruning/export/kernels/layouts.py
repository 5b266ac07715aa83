"""Lay the non-zero weights of a matrix out in memory as each kernel reads them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synaptic_pruning.export.kernels.matmul import TILE_BLOCK
from synaptic_pruning.export.kernels.simd import BLOCK, LANES

Index = NDArray[np.int32]
Values = NDArray[np.float32]


class Slices(NamedTuple):
    """Rows sorted by length, LANES rows a slice, each slice cut in blocks of BLOCK inputs.

    In one block of one slice every row is padded with zeros to the longest of them. A step holds one weight of each
    row, lane by lane. Steps of one block go in pairs, and a last one alone. A slice has its pairs first, then its
    single steps, so that its two loops do the same in every round and their ends are foreseen. Where every row has as
    many weights in a block, such as k of BLOCK, nothing is padded.

    Attributes:
        counts: Number of pairs, then of single steps, of each slice (2 · slices).
        blocks: The block of each pair and each single step, in their order.
        values: Weights (steps · LANES).
        columns: Position of each weight's input within its block (steps · LANES).
        order: The row in each lane (rows).
    """

    counts: Index
    blocks: Index
    values: Values
    columns: NDArray[np.uint8]
    order: Index


class Tiles(NamedTuple):
    """Compressed sparse rows of each block of TILE_BLOCK inputs, by length within a block, so that ends are foreseen.

    Attributes:
        starts: First weight and number of each row of each block, row innermost, then the number of all weights.
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
    each = np.bincount(run, minlength=slices * LANES * blocks).reshape(slices, LANES, blocks)
    steps = each.max(1, initial=0)
    parts = np.stack([steps // 2, steps % 2], 1)  # (slices, pairs and singles, blocks)
    sizes = parts * np.array([[2], [1]])
    starts = (sizes.ravel().cumsum() - sizes.ravel()).reshape(sizes.shape)
    lane, s, block = run // blocks % LANES, run // blocks // LANES, run % blocks
    single = within // 2 == parts[s, 0, block]
    at = (starts[s, single.astype(np.intp), block] + np.where(single, 0, within)) * LANES + lane

    packed = np.zeros(int(steps.sum()) * LANES, np.float32)
    packed[at] = values
    inside = np.zeros(packed.size, np.uint8)
    inside[at] = columns % BLOCK
    order_of_blocks = np.repeat(np.tile(np.arange(blocks), 2 * slices), parts.ravel())
    return Slices(parts.sum(2).ravel().astype(np.int32), order_of_blocks.astype(np.int32), packed, inside, order)


def to_tiles(row_starts: Index, columns: Index, values: Values, inputs: int) -> Tiles:
    """Return compressed sparse rows in the layout of the tile kernel."""
    rows, blocks = row_starts.size - 1, -(-inputs // TILE_BLOCK)
    run = columns // TILE_BLOCK * rows + np.repeat(np.arange(rows), np.diff(row_starts))
    counts = np.bincount(run, minlength=rows * blocks).reshape(blocks, rows)
    order = np.argsort(-counts, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(rows)[None], 1)
    by_place = np.argsort((place + np.arange(blocks)[:, None] * rows).ravel()[run], kind="stable")
    ends = np.take_along_axis(counts, order, 1).ravel().cumsum()
    starts = np.zeros(2 * rows * blocks + 1, np.int32)
    starts[2::2], starts[1::2] = ends, order.ravel()
    return Tiles(starts, values[by_place], (columns[by_place] % TILE_BLOCK).astype(np.uint8))


def pool(matrices: Sequence[tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
    """Join the arrays of several matrices one after the other, for a kernel that walks through all of them.

    Args:
        matrices: The arrays of each, such as those of `Slices`.

    Returns:
        The joined arrays, and where those of each matrix begin: (matrices + 1, arrays).
    """
    sizes = np.array([[array.size for array in arrays] for arrays in matrices])
    places = np.concatenate([np.zeros_like(sizes[:1]), sizes.cumsum(0)])
    return (*(np.concatenate(arrays) for arrays in zip(*matrices, strict=True)), places)


def _position_in_run(run: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2, … within each run of equal numbers."""
    places = np.arange(run.size)
    begins = np.concatenate([[True], run[1:] != run[:-1]]) if run.size else np.zeros(0, bool)
    return places - np.maximum.accumulate(np.where(begins, places, 0))
