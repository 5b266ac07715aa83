"""Compute attention over short sequences in one loop.

A lane is a query. Scores, softmax and the weighted sum stay in registers and the first-level cache.
"""

import numpy as np

from synaptic_pruning.export.kernels.matmul import transpose
from synaptic_pruning.export.kernels.simd import (
    TILE_LANES,
    add_to_exponent,
    broadcast_tile,
    clamp,
    divide,
    kernel,
    load_tile,
    multiply_add,
    store,
)

_LOG2E, _LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
_SHIFT = np.float32(1.5 * 2**23)  # adding it rounds to a whole number, held in the lowest bits
_LOWEST = np.float32(-87)  # exp of less is no normal float32
_ZERO, _ONE, _INFINITY = np.float32(0), np.float32(1), np.float32(np.inf)
_TAYLOR = tuple(np.float32(1 / f) for f in (5040, 720, 120, 24, 6, 2, 1))  # relative error 5e-9 on ±ln(2)/2
_E7, _E6, _E5, _E4, _E3, _E2, _E1 = _TAYLOR


@kernel(inline="always")
def exponential(x):
    """Return exp(x) for x of at most 0, relative error at most 3e-7; NaN stays NaN."""
    x = clamp(x, broadcast_tile(_LOWEST), broadcast_tile(_ZERO))
    shifted = multiply_add(x, broadcast_tile(_LOG2E), broadcast_tile(_SHIFT))
    whole = multiply_add(shifted, broadcast_tile(_ONE), broadcast_tile(-_SHIFT))
    r = multiply_add(whole, broadcast_tile(-_LN2), x)
    p = multiply_add(broadcast_tile(_E7), r, broadcast_tile(_E6))
    p = multiply_add(multiply_add(p, r, broadcast_tile(_E5)), r, broadcast_tile(_E4))
    p = multiply_add(multiply_add(p, r, broadcast_tile(_E3)), r, broadcast_tile(_E2))
    p = multiply_add(multiply_add(p, r, broadcast_tile(_E1)), r, broadcast_tile(_ONE))
    return multiply_add(x, broadcast_tile(_ZERO), add_to_exponent(p, shifted))


@kernel()
def attend(q, k, v, scale, out, queries, keys, heads, width, value_width, first, last):
    """Write softmax(q kᵀ · scale) v to ``out`` for samples ``first`` to ``last``.

    All arrays are flat views of (batch, time, heads · width); ``v`` and ``out`` have ``value_width`` for ``width``.
    """
    lanes = TILE_LANES
    q_row, v_row = heads * width, heads * value_width
    q_tile, scores = np.zeros(width * lanes, np.float32), np.empty(keys * lanes, np.float32)
    mixed = np.empty(value_width * lanes, np.float32)
    one, zero = broadcast_tile(_ONE), broadcast_tile(_ZERO)
    for batch in range(first, last):
        for head in range(heads):
            k_at = batch * keys * q_row + head * width
            v_at = batch * keys * v_row + head * value_width
            for query in range(0, queries, lanes):
                count = min(lanes, queries - query)
                row = batch * queries + query
                transpose(q, row * q_row + head * width, q_row, count, width, q_tile, 0, lanes)
                largest = broadcast_tile(-_INFINITY)
                for key in range(keys):
                    at = k_at + key * q_row
                    score = zero
                    for i in range(width):
                        score = multiply_add(broadcast_tile(k[at + i]), load_tile(q_tile, i * lanes), score)
                    score = multiply_add(score, broadcast_tile(scale), zero)
                    store(scores, key * lanes, score)
                    largest = clamp(score, largest, broadcast_tile(_INFINITY))
                norm = zero
                for key in range(keys):
                    score = multiply_add(largest, broadcast_tile(-_ONE), load_tile(scores, key * lanes))
                    part = exponential(score)
                    norm = multiply_add(part, one, norm)
                    store(scores, key * lanes, part)
                share = divide(one, norm)
                for i in range(value_width):
                    even, odd = zero, zero
                    for key in range(0, keys - 1, 2):
                        at = v_at + key * v_row + i
                        even = multiply_add(broadcast_tile(v[at]), load_tile(scores, key * lanes), even)
                        odd = multiply_add(broadcast_tile(v[at + v_row]), load_tile(scores, (key + 1) * lanes), odd)
                    if keys % 2:
                        at = v_at + (keys - 1) * v_row + i
                        even = multiply_add(broadcast_tile(v[at]), load_tile(scores, (keys - 1) * lanes), even)
                    total = multiply_add(odd, one, even)
                    store(mixed, i * lanes, multiply_add(total, share, zero))
                transpose(mixed, 0, lanes, value_width, count, out, row * v_row + head * value_width, v_row)
