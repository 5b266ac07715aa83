"""Run a whole sequence through one direction of one RNN, LSTM or GRU layer.

The gates of a layer lie one after the other, each ``hidden`` rows long. ``hidden`` is a multiple of TILE_LANES, so
that a gate fills whole registers. Padded rows hold no weights and no bias and stay exactly 0.
"""

import numpy as np

from synaptic_pruning.export.kernels.matmul import fill_rows, lookup_rows, multiply_tile
from synaptic_pruning.export.kernels.simd import (
    TILE_LANES,
    broadcast_tile,
    clamp,
    divide,
    kernel,
    load_tile,
    multiply_add,
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
def recurrent_lookup(
    mode,
    reverse,
    steps,
    batch,
    gx,
    starts,
    values,
    columns,
    order,
    bias,
    p_starts,
    p_values,
    p_columns,
    p_order,
    p_bias,
    h,
    cell_state,
    out,
    out_width,
    offset,
):
    """Run a sequence of few samples with the lookup kernel.

    ``gx`` (steps, batch, gates · hidden) is the input's part of the gates, bias included. ``starts`` to ``bias``
    are the recurrent weights as `Slices` and their bias. ``p_starts`` to ``p_bias`` are those of the projection,
    without rows where there is none. ``h`` (batch, width) and ``cell_state`` (batch, hidden) are updated in place.
    ``h`` of every step is copied to ``out`` (steps, batch, out_width) from column ``offset`` on.
    """
    gates = bias.size
    hidden, width = cell_state.size // batch, h.size // batch
    gh = np.empty(batch * gates, np.float32)
    projected = p_order.size > 0
    before = np.empty(batch * hidden, np.float32) if projected else h
    for k in range(steps):
        t = steps - 1 - k if reverse else k
        lookup_rows(starts, values, columns, order, bias, h, width, gh, gates, 0, batch)
        for b in range(batch):
            at = b * hidden
            _time_step(mode, gx, (t * batch + b) * gates, gh, b * gates, hidden, h, at, before, at, cell_state, at)
        if projected:
            lookup_rows(p_starts, p_values, p_columns, p_order, p_bias, before, hidden, h, width, 0, batch)
        for b in range(batch):
            at = (t * batch + b) * out_width + offset
            out[at : at + width] = h[b * width : (b + 1) * width]


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

    The weights are `Tiles`; ``x_starts`` to ``x_bias`` are those of the input. Otherwise as `recurrent_lookup`, but
    samples lie innermost: ``x`` (steps, inputs, lanes), ``h`` (width, lanes), ``cell_state`` (hidden, lanes) and
    ``out`` (steps, out_width, lanes).
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
