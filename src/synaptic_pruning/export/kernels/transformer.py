"""Compute a whole transformer block, one sample after the other.

A lane is a token. Tokens come in tiles of 32, the last of 16 or 32. A tile of f features is (f, lanes), and tile t
starts at 32 · t · f. Norms, softmax, GELU and shortcuts then need no change of layout and run on whole registers.
"""

import numpy as np

from synaptic_pruning.export.kernels.attention import exponential
from synaptic_pruning.export.kernels.matmul import fill_rows, multiply_tile, transpose
from synaptic_pruning.export.kernels.simd import (
    TILE_LANES,
    broadcast_tile,
    clamp,
    divide,
    kernel,
    load_tile,
    multiply_add,
    square_root,
    store,
)

_ZERO, _HALF, _ONE, _INFINITY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(np.inf)
# erf(x / √2) / x on [-5.5, 5.5] as a ratio of two quintics in x², fitted for the smallest relative error: erf is
# within 4e-7 in float32 arithmetic, and beyond 5.5 it is 1 to float32 rounding.
_LIMIT = np.float32(5.5)
_P = (4.58623727e-8, 1.26031471e-5, 3.29145044e-4, 9.30294892e-3, 6.69175611e-2, 0.797884548)
_Q = (1.19902797e-6, 7.21665972e-5, 1.86063900e-3, 2.84160640e-2, 0.250535127, 1.0)
_P5, _P4, _P3, _P2, _P1, _P0 = (np.float32(p) for p in _P)
_Q5, _Q4, _Q3, _Q2, _Q1, _Q0 = (np.float32(q) for q in _Q)


@kernel(inline="always")
def _gelu(x):
    """Return x · (1 + erf(x / √2)) / 2, absolute error at most 2.5e-7 · max(1, |x|)."""
    z = clamp(x, broadcast_tile(-_LIMIT), broadcast_tile(_LIMIT))
    s = multiply_add(z, z, broadcast_tile(_ZERO))
    p = multiply_add(broadcast_tile(_P5), s, broadcast_tile(_P4))
    p = multiply_add(multiply_add(p, s, broadcast_tile(_P3)), s, broadcast_tile(_P2))
    p = multiply_add(multiply_add(p, s, broadcast_tile(_P1)), s, broadcast_tile(_P0))
    q = multiply_add(broadcast_tile(_Q5), s, broadcast_tile(_Q4))
    q = multiply_add(multiply_add(q, s, broadcast_tile(_Q3)), s, broadcast_tile(_Q2))
    q = multiply_add(multiply_add(q, s, broadcast_tile(_Q1)), s, broadcast_tile(_Q0))
    erf = divide(multiply_add(p, z, broadcast_tile(_ZERO)), q)
    half = multiply_add(x, broadcast_tile(_HALF), broadcast_tile(_ZERO))
    return multiply_add(half, erf, half)


@kernel()
def activate(gelu, tile):
    """Apply GELU, or ReLU where ``gelu`` is false, in place."""
    for at in range(0, tile.size, TILE_LANES):
        x = load_tile(tile, at)
        store(tile, at, _gelu(x) if gelu else clamp(x, broadcast_tile(_ZERO), broadcast_tile(_INFINITY)))


@kernel()
def layer_norm(x, scale, shift, epsilon, y, lanes):
    """Write the layer norm of tile ``x`` over its features to ``y``, which may be ``x``."""
    features = scale.size
    zero, share = broadcast_tile(_ZERO), broadcast_tile(np.float32(1 / features))
    for lane in range(0, lanes, TILE_LANES):
        even, odd = zero, zero
        for i in range(0, features - 1, 2):
            even = multiply_add(load_tile(x, i * lanes + lane), share, even)
            odd = multiply_add(load_tile(x, (i + 1) * lanes + lane), share, odd)
        if features % 2:
            even = multiply_add(load_tile(x, (features - 1) * lanes + lane), share, even)
        mean = multiply_add(even, broadcast_tile(-_ONE), multiply_add(odd, broadcast_tile(-_ONE), zero))
        even, odd = zero, zero
        for i in range(0, features - 1, 2):
            first = multiply_add(load_tile(x, i * lanes + lane), broadcast_tile(_ONE), mean)
            second = multiply_add(load_tile(x, (i + 1) * lanes + lane), broadcast_tile(_ONE), mean)
            even, odd = multiply_add(first, first, even), multiply_add(second, second, odd)
        if features % 2:
            first = multiply_add(load_tile(x, (features - 1) * lanes + lane), broadcast_tile(_ONE), mean)
            even = multiply_add(first, first, even)
        variance = multiply_add(multiply_add(even, broadcast_tile(_ONE), odd), share, broadcast_tile(epsilon))
        inverse_deviation = divide(broadcast_tile(_ONE), square_root(variance))
        offset = multiply_add(mean, inverse_deviation, zero)
        for i in range(features):
            value = multiply_add(load_tile(x, i * lanes + lane), inverse_deviation, offset)
            store(y, i * lanes + lane, multiply_add(value, broadcast_tile(scale[i]), broadcast_tile(shift[i])))


@kernel()
def project(starts, values, columns, bias, x, y, lanes):
    """Compute ``y = W @ x + bias`` for a tile."""
    fill_rows(y, bias, lanes)
    multiply_tile(starts, values, columns, x, 0, y, lanes)


@kernel()
def add_project(starts, values, columns, bias, x, y, lanes):
    """Compute ``y += W @ x + bias`` for a tile."""
    for row in range(bias.size):
        for at in range(row * lanes, (row + 1) * lanes, TILE_LANES):
            store(y, at, multiply_add(load_tile(y, at), broadcast_tile(_ONE), broadcast_tile(bias[row])))
    multiply_tile(starts, values, columns, x, 0, y, lanes)


@kernel()
def attend_head(qkv, q, k, v, rows, width, value_width, scale, tokens, tile, lanes, lane, scores, mixed, to):
    """Write softmax(q kᵀ · scale) v of one head to ``mixed`` (features, lanes), for 16 queries of a tile.

    ``q``, ``k`` and ``v`` are the head's first rows in each tile (rows, lanes) of ``qkv``. Four keys, then four
    features, share a load. The last of four features may belong to the next head, which overwrites them.
    """
    padded = -(-tokens // TILE_LANES) * TILE_LANES
    zero, one = broadcast_tile(_ZERO), broadcast_tile(_ONE)
    q_at = 32 * tile * rows + q * lanes + lane
    for first in range(0, tokens, 4):
        stride = min(32, padded - first // 32 * 32)
        k_at = first // 32 * 32 * rows + k * stride + first % 32
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(width):
            query, at = load_tile(qkv, q_at + i * lanes), k_at + i * stride
            s0 = multiply_add(broadcast_tile(qkv[at]), query, s0)
            s1 = multiply_add(broadcast_tile(qkv[at + 1]), query, s1)
            s2 = multiply_add(broadcast_tile(qkv[at + 2]), query, s2)
            s3 = multiply_add(broadcast_tile(qkv[at + 3]), query, s3)
        at = first * TILE_LANES
        store(scores, at, multiply_add(s0, broadcast_tile(scale), zero))
        store(scores, at + TILE_LANES, multiply_add(s1, broadcast_tile(scale), zero))
        store(scores, at + 2 * TILE_LANES, multiply_add(s2, broadcast_tile(scale), zero))
        store(scores, at + 3 * TILE_LANES, multiply_add(s3, broadcast_tile(scale), zero))
    largest = broadcast_tile(-_INFINITY)
    for key in range(tokens):
        largest = clamp(load_tile(scores, key * TILE_LANES), largest, broadcast_tile(_INFINITY))
    norm = zero
    for key in range(tokens):
        part = exponential(multiply_add(largest, broadcast_tile(-_ONE), load_tile(scores, key * TILE_LANES)))
        norm = multiply_add(part, one, norm)
        store(scores, key * TILE_LANES, part)
    share = divide(one, norm)
    for i in range(0, value_width, 4):
        s0, s1, s2, s3 = zero, zero, zero, zero
        for first in range(0, tokens, 32):
            stride = min(32, padded - first)
            v_at = first * rows + (v + i) * stride
            for key in range(min(32, tokens - first)):
                weight, at = load_tile(scores, (first + key) * TILE_LANES), v_at + key
                s0 = multiply_add(broadcast_tile(qkv[at]), weight, s0)
                s1 = multiply_add(broadcast_tile(qkv[at + stride]), weight, s1)
                s2 = multiply_add(broadcast_tile(qkv[at + 2 * stride]), weight, s2)
                s3 = multiply_add(broadcast_tile(qkv[at + 3 * stride]), weight, s3)
        at = (to + i) * lanes + lane
        store(mixed, at, multiply_add(s0, share, zero))
        store(mixed, at + lanes, multiply_add(s1, share, zero))
        store(mixed, at + 2 * lanes, multiply_add(s2, share, zero))
        store(mixed, at + 3 * lanes, multiply_add(s3, share, zero))


@kernel()
def transformer_block(
    x,
    y,
    tokens,
    first,
    last,
    norm_first,
    gelu,
    heads,
    width,
    value_width,
    scale,
    epsilon1,
    scale1,
    shift1,
    epsilon2,
    scale2,
    shift2,
    in_starts,
    in_values,
    in_columns,
    in_bias,
    out_starts,
    out_values,
    out_columns,
    out_bias,
    linear1_starts,
    linear1_values,
    linear1_columns,
    linear1_bias,
    linear2_starts,
    linear2_values,
    linear2_columns,
    linear2_bias,
):
    """Run samples ``first`` to ``last`` of ``x`` (samples, tokens, features) through a transformer block.

    The weights are `Tiles`. ``in_…`` holds queries, keys and values of all heads, ``out_…`` the output projection,
    ``linear1_…`` and ``linear2_…`` the feed-forward. Norms stand before attention and feed-forward, or after their
    shortcuts (``norm_first`` false).
    """
    features, rows, hidden = scale1.size, in_bias.size, linear1_bias.size
    padded = -(-tokens // TILE_LANES) * TILE_LANES
    inner = np.zeros(features * padded, np.float32)
    # Four features at a time may reach three rows beyond the last.
    qkv, mixed_all = np.zeros((rows + 3) * padded, np.float32), np.zeros((heads * value_width + 3) * 32, np.float32)
    normed_all, hidden_all = np.empty(features * 32, np.float32), np.empty(hidden * 32, np.float32)
    scores = np.empty(padded * TILE_LANES, np.float32)
    for sample in range(first, last):
        inner[:] = _ZERO
        for token in range(0, tokens, 32):
            lanes, count = min(32, padded - token), min(32, tokens - token)
            tile = inner[token * features : (token + lanes) * features]
            transpose(x, (sample * tokens + token) * features, features, count, features, tile, 0, lanes)
            source = tile
            if norm_first:
                source = normed_all[: features * lanes]
                layer_norm(tile, scale1, shift1, epsilon1, source, lanes)
            target = qkv[token * rows : (token + lanes) * rows]
            project(in_starts, in_values, in_columns, in_bias, source, target, lanes)
        for token in range(0, tokens, 32):
            lanes, count = min(32, padded - token), min(32, tokens - token)
            tile = inner[token * features : (token + lanes) * features]
            mixed = mixed_all[: (heads * value_width + 3) * lanes]
            for lane in range(0, lanes, TILE_LANES):
                for head in range(heads):
                    attend_head(
                        qkv,
                        head * width,
                        (heads + head) * width,
                        2 * heads * width + head * value_width,
                        rows,
                        width,
                        value_width,
                        scale,
                        tokens,
                        token // 32,
                        lanes,
                        lane,
                        scores,
                        mixed,
                        head * value_width,
                    )
            add_project(out_starts, out_values, out_columns, out_bias, mixed, tile, lanes)
            source = tile
            if norm_first:
                source = normed_all[: features * lanes]
                layer_norm(tile, scale2, shift2, epsilon2, source, lanes)
            else:
                layer_norm(tile, scale1, shift1, epsilon1, tile, lanes)
            wide = hidden_all[: hidden * lanes]
            project(linear1_starts, linear1_values, linear1_columns, linear1_bias, source, wide, lanes)
            activate(gelu, wide)
            add_project(linear2_starts, linear2_values, linear2_columns, linear2_bias, wide, tile, lanes)
            if not norm_first:
                layer_norm(tile, scale2, shift2, epsilon2, tile, lanes)
            transpose(tile, 0, lanes, features, count, y, (sample * tokens + token) * features, features)
