"""Run whole sequences through RNN, LSTM and GRU layers.

The gates of a layer lie one after the other, each ``hidden`` rows long. ``hidden`` is a multiple of TILE_LANES, so
that a gate fills whole registers. Padded rows hold no weights and no bias and stay exactly 0.
"""

from typing import Any

import numpy as np
from numba import carray

from synaptic_pruning.export.kernels.matmul import fill_rows, lookup_rows, multiply_tile, tile_rows
from synaptic_pruning.export.kernels.simd import (
    BLOCK,
    TILE_LANES,
    broadcast_tile,
    clamp,
    divide,
    kernel,
    load_tile,
    multiply_add,
    pointer,
    store,
)

LSTM, GRU, TANH, RELU = range(4)  # values of `mode`

# tanh(x) / x on [-9, 9] as a ratio of two quartics in x², fitted for the smallest relative error: within
# 3.5e-7 of tanh in float32 arithmetic, and beyond 9 tanh is 1 to float32 rounding.
_LIMIT = np.float32(9)
_P4, _P3, _P2, _P1 = (np.float32(p) for p in (1.33534144e-8, 2.06081841e-5, 3.49553442e-3, 0.133809805))
_Q4, _Q3, _Q2, _Q1 = (np.float32(q) for q in (7.77604725e-7, 3.28554626e-4, 2.58767791e-2, 0.467142969))
_ONE, _HALF, _ZERO = np.float32(1), np.float32(0.5), np.float32(0)


@kernel(inline="always")
def _tanh(x):
    x = clamp(x, broadcast_tile(-_LIMIT), broadcast_tile(_LIMIT))
    zero, one = broadcast_tile(_ZERO), broadcast_tile(_ONE)
    s = multiply_add(x, x, zero)
    p = multiply_add(broadcast_tile(_P4), s, broadcast_tile(_P3))
    p = multiply_add(multiply_add(p, s, broadcast_tile(_P2)), s, broadcast_tile(_P1))
    q = multiply_add(broadcast_tile(_Q4), s, broadcast_tile(_Q3))
    q = multiply_add(multiply_add(q, s, broadcast_tile(_Q2)), s, broadcast_tile(_Q1))
    return divide(multiply_add(multiply_add(p, s, one), x, zero), multiply_add(q, s, one))


@kernel(inline="always")
def _sigmoid(x):
    half = broadcast_tile(_HALF)
    return multiply_add(_tanh(multiply_add(x, half, broadcast_tile(_ZERO))), half, half)


@kernel()
def _time_step(mode, gx, gx_start, gh, gh_start, size, state, state_start, h, h_start, cell_state, cell_start):
    """Compute one time step, with the formulas of torch.nn.LSTM, GRU and RNN.

    ``gx`` and ``gh`` are the input's and the recurrent part of the gates. ``state`` is the hidden state before the
    step (read by GRU alone), ``h`` the one after it. ``cell_state`` is updated in place (by LSTM alone).
    """
    one = broadcast_tile(_ONE)
    zero, minus = broadcast_tile(_ZERO), broadcast_tile(-_ONE)
    for i in range(0, size, TILE_LANES):
        x, r = gx_start + i, gh_start + i
        first = multiply_add(load_tile(gx, x), one, load_tile(gh, r))
        if mode == LSTM:
            x, r = x + size, r + size
            forget = _sigmoid(multiply_add(load_tile(gx, x), one, load_tile(gh, r)))
            x, r = x + size, r + size
            candidate = _tanh(multiply_add(load_tile(gx, x), one, load_tile(gh, r)))
            x, r = x + size, r + size
            out = _sigmoid(multiply_add(load_tile(gx, x), one, load_tile(gh, r)))
            updated = multiply_add(forget, load_tile(cell_state, cell_start + i), zero)
            updated = multiply_add(_sigmoid(first), candidate, updated)
            store(cell_state, cell_start + i, updated)
            store(h, h_start + i, multiply_add(out, _tanh(updated), zero))
        elif mode == GRU:
            reset = _sigmoid(first)
            x, r = x + size, r + size
            update = _sigmoid(multiply_add(load_tile(gx, x), one, load_tile(gh, r)))
            x, r = x + size, r + size
            candidate = _tanh(multiply_add(reset, load_tile(gh, r), load_tile(gx, x)))
            change = multiply_add(candidate, minus, load_tile(state, state_start + i))
            store(h, h_start + i, multiply_add(update, change, candidate))
        elif mode == TANH:
            store(h, h_start + i, _tanh(first))
        else:
            store(h, h_start + i, clamp(first, zero, broadcast_tile(np.float32(np.inf))))


@kernel()
def _product(counts, blocks, values, columns, order, bias, places, number, x, x_stride, y, y_stride, samples):
    """Compute ``y = W @ x + bias`` for matrix ``number`` of pooled `Slices`."""
    first, last = places[number], places[number + 1]
    lookup_rows(
        counts[first[0] : last[0]],
        blocks[first[1] : last[1]],
        values[first[2] : last[2]],
        columns[first[3] : last[3]],
        order[first[4] : last[4]],
        bias[first[5] : last[5]],
        x,
        x_stride,
        y,
        y_stride,
        0,
        samples,
    )


def stack_table(sizes: tuple[int, ...], arrays: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return what `run_stack` takes: sizes, then the address and size of every array. Keep the arrays alive.

    Args:
        sizes: Mode, directions (1 or 2), inputs, units, and outputs of each direction: fewer where they are projected.
        arrays: The `Slices` and biases of all matrices, pooled: input weights, recurrent weights and projection of each
            layer and direction, then the head. Then the `Tiles` of the input weights, pooled.
    """
    places = [number for array in arrays for number in (array.ctypes.data, array.size)]
    return np.array([*sizes, *places], np.int64)


@kernel()
def _floats(address, size):
    return carray(pointer(address), (size if address else 0,), np.float32)


@kernel()
def _array(table, number, dtype):
    return carray(pointer(table[5 + 2 * number]), (table[6 + 2 * number],), dtype)


@kernel()
def _copy(source, start, target, at, size):
    for i in range(size):
        target[at + i] = source[start + i]


@kernel()
def run_stack(
    table, steps, batch, batch_first, x_at, h_before_at, c_before_at, h_after_at, c_after_at, out_at, head_at
):
    """Run few samples through all layers of a stack and through its head.

    Tensors come as addresses of float32 numbers, which Numba takes faster than arrays.

    Args:
        table: Sizes and weights, from `stack_table`.
        steps: Number of rows, at least 1.
        batch: Number of samples, at least 1.
        batch_first: Whether ``x`` and ``out`` are (batch, steps, …) instead of (steps, batch, …).
        x_at: Input.
        h_before_at: State before (layers · directions, batch, width); 0 means zeros.
        c_before_at: Cell state before (layers · directions, batch, units); 0 means zeros.
        h_after_at: Where the state after goes; 0 where nobody asks for it.
        c_after_at: Where the cell state after goes; 0 where nobody asks for it.
        out_at: Where the last layer's outputs of every row go; 0 where nobody asks for them.
        head_at: Where the head's outputs for the last row go; 0 where there is no head.
    """
    mode, directions, inputs, units, width = table[0], table[1], table[2], table[3], table[4]
    counts, blocks, values = _array(table, 0, np.int32), _array(table, 1, np.int32), _array(table, 2, np.float32)
    columns, order, bias = _array(table, 3, np.uint8), _array(table, 4, np.int32), _array(table, 5, np.float32)
    places = _array(table, 6, np.int64).reshape(-1, 6)
    tile_starts, tile_values = _array(table, 7, np.int32), _array(table, 8, np.float32)
    tile_columns, tile_places = _array(table, 9, np.uint8), _array(table, 10, np.int64).reshape(-1, 3)
    count = (places.shape[0] - 1) // 3
    outputs = places[places.shape[0] - 1, 5] - places[3 * count, 5]
    x, out = _floats(x_at, steps * batch * inputs), _floats(out_at, steps * batch * directions * width)
    h_before, h_after = _floats(h_before_at, count * batch * width), _floats(h_after_at, count * batch * width)
    c_before, c_after = _floats(c_before_at, count * batch * units), _floats(c_after_at, count * batch * units)
    head_out = _floats(head_at, batch * outputs)
    samples = steps * batch
    rows = -(-samples // TILE_LANES) * TILE_LANES  # whole tiles
    wide = -(-inputs // BLOCK) * BLOCK
    source = np.zeros(rows * wide, np.float32)
    for t in range(steps):
        for b in range(batch):
            at, sample = (t * batch + b) * wide, b * steps + t if batch_first else t * batch + b
            _copy(x, sample * inputs, source, at, inputs)
    gates, projected = places[2, 5] - places[1, 5], width < units
    padded_units = gates // (4 if mode == LSTM else 3 if mode == GRU else 1)
    padded_width = places[3, 5] - places[2, 5] if projected else padded_units
    gx, gh = np.empty(rows * gates, np.float32), np.empty(batch * gates, np.float32)
    target = source
    for number in range(count):
        direction = number % directions
        if direction == 0:
            source, target = target, np.zeros(rows * directions * padded_width, np.float32)
            wide = source.size // rows
        if samples >= TILE_LANES:
            first, last = tile_places[number], tile_places[number + 1]
            tile_rows(
                tile_starts[first[0] : last[0]],
                tile_values[first[1] : last[1]],
                tile_columns[first[2] : last[2]],
                bias[places[3 * number, 5] : places[3 * number + 1, 5]],
                source,
                wide,
                gx,
                0,
                rows,
            )
        else:
            _product(counts, blocks, values, columns, order, bias, places, 3 * number, source, wide, gx, gates, samples)
        h, c = np.zeros(batch * padded_width, np.float32), np.zeros(batch * padded_units, np.float32)
        before = np.empty(batch * padded_units, np.float32) if projected else h
        for b in range(batch):
            at = number * batch + b
            if h_before.size:
                _copy(h_before, at * width, h, b * padded_width, width)
            if c_before.size:
                _copy(c_before, at * units, c, b * padded_units, units)
        for k in range(steps):
            t = steps - 1 - k if direction else k
            _product(
                counts, blocks, values, columns, order, bias, places, 3 * number + 1, h, padded_width, gh, gates, batch
            )
            for b in range(batch):
                at = b * padded_units
                gx_at = (t * batch + b) * gates
                _time_step(mode, gx, gx_at, gh, b * gates, padded_units, h, at, before, at, c, at)
            if projected:
                _product(
                    counts,
                    blocks,
                    values,
                    columns,
                    order,
                    bias,
                    places,
                    3 * number + 2,
                    before,
                    padded_units,
                    h,
                    padded_width,
                    batch,
                )
            for b in range(batch):
                at = ((t * batch + b) * directions + direction) * padded_width
                _copy(h, b * padded_width, target, at, padded_width)
        for b in range(batch):
            at = number * batch + b
            if h_after.size:
                _copy(h, b * padded_width, h_after, at * width, width)
            if c_after.size:
                _copy(c, b * padded_units, c_after, at * units, units)
    if out.size:
        for t in range(steps):
            for b in range(batch):
                sample = b * steps + t if batch_first else t * batch + b
                for direction in range(directions):
                    at = ((t * batch + b) * directions + direction) * padded_width
                    to = (sample * directions + direction) * width
                    _copy(target, at, out, to, width)
    if head_out.size:
        wide = directions * padded_width
        last_row = target[(steps - 1) * batch * wide :]
        _product(
            counts, blocks, values, columns, order, bias, places, 3 * count, last_row, wide, head_out, outputs, batch
        )


@kernel()
def recurrent_tile(
    mode,
    reverse,
    steps,
    lanes,
    x,
    inputs,
    x_starts,
    x_values,
    x_columns,
    x_bias,
    starts,
    values,
    columns,
    bias,
    p_starts,
    p_values,
    p_columns,
    h,
    cell_state,
    out,
    out_width,
    offset,
):
    """Run a sequence of ``lanes`` samples (16 or 32) with the tile kernel.

    It is one direction of one layer. The weights are `Tiles`: ``x_starts`` to ``x_bias`` of the input, ``starts`` to
    ``bias`` recurrent, ``p_starts`` to ``p_columns`` of the projection, without rows where there is none. Samples lie
    innermost: ``x`` (steps, inputs, lanes), ``h`` (width, lanes) and ``cell_state`` (hidden, lanes). The last two are
    updated in place. ``h`` of every step is copied to ``out`` (steps, out_width, lanes) from column ``offset`` on.
    """
    gates = bias.size
    hidden = cell_state.size // lanes
    gx, gh = np.empty(gates * lanes, np.float32), np.empty(gates * lanes, np.float32)
    projected = p_starts.size > 1
    before = np.empty(hidden * lanes, np.float32) if projected else h
    for k in range(steps):
        t = steps - 1 - k if reverse else k
        fill_rows(gx, x_bias, lanes)
        multiply_tile(x_starts, x_values, x_columns, x, t * inputs * lanes, gx, lanes)
        fill_rows(gh, bias, lanes)
        multiply_tile(starts, values, columns, h, 0, gh, lanes)
        _time_step(mode, gx, 0, gh, 0, hidden * lanes, h, 0, before, 0, cell_state, 0)
        if projected:
            h[:] = _ZERO
            multiply_tile(p_starts, p_values, p_columns, before, 0, h, lanes)
        at = (t * out_width + offset) * lanes
        out[at : at + h.size] = h
