"""Multiply a sparse matrix by dense samples on a CPU.

Two kernels compute ``y = W @ x`` for a sparse ``W``. They differ in the meaning of a register's lanes:

- *lookup* (few samples): a lane is a row of ``W``. The input is cut in blocks that fit one register or two, and
  a register shuffle picks the inputs. Gathering them from memory took 2.8 times as long (docs/results/export.md).
- *tile* (many samples): a lane is a sample, so that each non-zero weight is one multiply-add over the tile.

No index is checked; callers pass the right shapes. All arrays are one-dimensional, contiguous float32.
`layouts.py` defines the layouts of the weights.
"""

import numpy as np

from synaptic_pruning.export.kernels.simd import (
    BLOCK,
    LANES,
    TILE_LANES,
    broadcast_lanes,
    broadcast_tile,
    kernel,
    load_lanes,
    load_tile,
    lookup,
    multiply_add,
    store,
    transpose_square,
)

TILE_BLOCK = 256  # inputs a tile handles at a time: 256 inputs of 32 samples fill a first-level cache of 32 kB
_HALF = BLOCK - LANES  # start of the second register of a block (0 where a block is one register)


@kernel()
def lookup_one(counts, blocks, values, columns, order, bias, x, x_start, y, y_start):
    """Compute ``y = W @ x + bias`` for the sample at ``x[x_start:]``, padded to a multiple of BLOCK."""
    rows = order.size
    sums = np.empty(LANES, np.float32)
    group = np.intp(0)
    at = np.intp(0)
    for s in range(counts.size // 2):
        even = broadcast_lanes(np.float32(0))
        odd = even
        for _ in range(counts[2 * s]):
            block = x_start + np.intp(blocks[group]) * BLOCK
            low, high = load_lanes(x, block), load_lanes(x, block + _HALF)
            even = multiply_add(load_lanes(values, at), lookup(low, high, columns, at), even)
            odd = multiply_add(load_lanes(values, at + LANES), lookup(low, high, columns, at + LANES), odd)
            group += 1
            at += 2 * LANES
        for _ in range(counts[2 * s + 1]):
            block = x_start + np.intp(blocks[group]) * BLOCK
            low, high = load_lanes(x, block), load_lanes(x, block + _HALF)
            even = multiply_add(load_lanes(values, at), lookup(low, high, columns, at), even)
            group += 1
            at += LANES
        store(sums, 0, multiply_add(odd, broadcast_lanes(np.float32(1)), even))
        for lane in range(min(LANES, rows - s * LANES)):
            row = order[s * LANES + lane]
            y[y_start + row] = sums[lane] + bias[row]


@kernel()
def lookup_four(counts, blocks, values, columns, order, bias, x, x_start, x_stride, y, y_start, y_stride):
    """Compute `lookup_one` for four samples, ``x_stride`` and ``y_stride`` apart; weights are read once."""
    rows = order.size
    sums = np.empty(4 * LANES, np.float32)
    group = np.intp(0)
    at = np.intp(0)
    for s in range(counts.size // 2):
        sum0 = broadcast_lanes(np.float32(0))
        sum1 = sum0
        sum2 = sum0
        sum3 = sum0
        for half in range(2):
            for _ in range(counts[2 * s + half]):
                block = x_start + np.intp(blocks[group]) * BLOCK
                low0, high0 = load_lanes(x, block), load_lanes(x, block + _HALF)
                block += x_stride
                low1, high1 = load_lanes(x, block), load_lanes(x, block + _HALF)
                block += x_stride
                low2, high2 = load_lanes(x, block), load_lanes(x, block + _HALF)
                block += x_stride
                low3, high3 = load_lanes(x, block), load_lanes(x, block + _HALF)
                group += 1
                for _ in range(2 - half):
                    weights = load_lanes(values, at)
                    sum0 = multiply_add(weights, lookup(low0, high0, columns, at), sum0)
                    sum1 = multiply_add(weights, lookup(low1, high1, columns, at), sum1)
                    sum2 = multiply_add(weights, lookup(low2, high2, columns, at), sum2)
                    sum3 = multiply_add(weights, lookup(low3, high3, columns, at), sum3)
                    at += LANES
        store(sums, 0, sum0)
        store(sums, LANES, sum1)
        store(sums, 2 * LANES, sum2)
        store(sums, 3 * LANES, sum3)
        for lane in range(min(LANES, rows - s * LANES)):
            row = order[s * LANES + lane]
            to = y_start + row
            y[to] = sums[lane] + bias[row]
            y[to + y_stride] = sums[lane + LANES] + bias[row]
            y[to + 2 * y_stride] = sums[lane + 2 * LANES] + bias[row]
            y[to + 3 * y_stride] = sums[lane + 3 * LANES] + bias[row]


@kernel()
def lookup_rows(counts, blocks, values, columns, order, bias, x, x_stride, y, y_stride, first, last):
    """Compute samples ``first`` to ``last``, stored one after the other: by fours, then one by one."""
    sample = first
    while sample + 4 <= last:
        lookup_four(
            counts,
            blocks,
            values,
            columns,
            order,
            bias,
            x,
            sample * x_stride,
            x_stride,
            y,
            sample * y_stride,
            y_stride,
        )
        sample += 4
    while sample < last:
        lookup_one(counts, blocks, values, columns, order, bias, x, sample * x_stride, y, sample * y_stride)
        sample += 1


@kernel()
def tile_16(starts, values, columns, x, x_start, y):
    """Compute ``y += W @ x`` for 16 samples: ``x[x_start:]`` is (inputs, 16), ``y`` is (rows, 16)."""
    rows = y.size // 16
    group = 0
    zero, one = broadcast_tile(np.float32(0)), broadcast_tile(np.float32(1))
    for block in range(starts.size // 2 // max(rows, 1)):
        base = x_start + block * TILE_BLOCK * 16
        for _ in range(rows):
            k, end, row = np.intp(starts[group]), np.intp(starts[group + 2]), np.intp(starts[group + 1]) * 16
            group += 2
            if k < end:
                # One sum would wait for itself; `tile_32` adds in the same order.
                total, more = load_tile(y, row), zero
                while k + 2 <= end:
                    at = base + np.intp(columns[k]) * 16
                    total = multiply_add(broadcast_tile(values[k]), load_tile(x, at), total)
                    k += 1
                    at = base + np.intp(columns[k]) * 16
                    more = multiply_add(broadcast_tile(values[k]), load_tile(x, at), more)
                    k += 1
                if k < end:
                    at = base + np.intp(columns[k]) * 16
                    total = multiply_add(broadcast_tile(values[k]), load_tile(x, at), total)
                store(y, row, multiply_add(more, one, total))


@kernel()
def tile_32(starts, values, columns, x, x_start, y):
    """Compute ``y += W @ x`` for 32 samples: ``x[x_start:]`` is (inputs, 32), ``y`` is (rows, 32)."""
    rows = y.size // 32
    group = 0
    zero, one = broadcast_tile(np.float32(0)), broadcast_tile(np.float32(1))
    for block in range(starts.size // 2 // max(rows, 1)):
        base = x_start + block * TILE_BLOCK * 32
        for _ in range(rows):
            k, end, row = np.intp(starts[group]), np.intp(starts[group + 2]), np.intp(starts[group + 1]) * 32
            group += 2
            if k < end:
                left, right, more_left, more_right = load_tile(y, row), load_tile(y, row + 16), zero, zero
                while k + 2 <= end:
                    at, weight = base + np.intp(columns[k]) * 32, broadcast_tile(values[k])
                    left = multiply_add(weight, load_tile(x, at), left)
                    right = multiply_add(weight, load_tile(x, at + 16), right)
                    k += 1
                    at, weight = base + np.intp(columns[k]) * 32, broadcast_tile(values[k])
                    more_left = multiply_add(weight, load_tile(x, at), more_left)
                    more_right = multiply_add(weight, load_tile(x, at + 16), more_right)
                    k += 1
                if k < end:
                    at, weight = base + np.intp(columns[k]) * 32, broadcast_tile(values[k])
                    left = multiply_add(weight, load_tile(x, at), left)
                    right = multiply_add(weight, load_tile(x, at + 16), right)
                store(y, row, multiply_add(more_left, one, left))
                store(y, row + 16, multiply_add(more_right, one, right))


@kernel()
def multiply_tile(starts, values, columns, x, x_start, y, width):
    """Compute ``y += W @ x`` for a tile of ``width`` samples, 16 or 32."""
    if width == 32:
        tile_32(starts, values, columns, x, x_start, y)
    else:
        tile_16(starts, values, columns, x, x_start, y)


@kernel()
def transpose(source, start, stride, rows, columns, target, at, step):
    """Transpose (rows, columns) at ``source[start:]`` to ``target[at:]``; rows ``stride`` and ``step`` apart."""
    whole_rows, whole_columns = rows - rows % TILE_LANES, columns - columns % TILE_LANES
    for i in range(0, whole_rows, TILE_LANES):
        for j in range(0, whole_columns, TILE_LANES):
            transpose_square(source, start + i * stride + j, stride, target, at + j * step + i, step)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            target[at + j * step + i] = source[start + i * stride + j]


@kernel()
def fill_rows(tile, bias, width):
    """Set row r of ``tile`` (rows, width) to ``bias[r]`` in every lane."""
    for row in range(bias.size):
        tile[row * width : (row + 1) * width] = bias[row]


@kernel()
def tile_rows(starts, values, columns, bias, x, inputs, y, first, last):
    """Compute ``y = W @ x + bias`` for samples ``first`` to ``last``, tile after tile."""
    outputs = bias.size
    widest = 32 if last - first > 16 else 16
    x_tile = np.zeros(inputs * widest, np.float32)
    y_tile = np.empty(outputs * widest, np.float32)
    sample = first
    while sample < last:
        width = 32 if last - sample > 16 else 16
        count = min(width, last - sample)
        transpose(x, sample * inputs, inputs, count, inputs, x_tile, 0, width)
        tile = y_tile[: outputs * width]
        fill_rows(tile, bias, width)
        multiply_tile(starts, values, columns, x_tile, 0, tile, width)
        transpose(tile, 0, width, outputs, count, y, sample * outputs, outputs)
        sample += width
