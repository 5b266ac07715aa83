"""C source of the functions that written networks call; a file gets those that it uses."""

BLOCK = 8
"""Rows that the block products take together."""

_TANH = """\
/* tanh as a ratio of two polynomials: within 4e-7 of it, and faster than that of libm. NaN stays NaN. Sizes above 9
   become 9 by their bits, for a comparison of floats may trap, and then compilers make no vectors of a loop. */
static float NET_tanh(float x) {
    union { float value; uint32_t bits; } limited;
    limited.value = x;
    const uint32_t size = limited.bits & 0x7fffffffu;
    const uint32_t kept = size - 0x41100000u <= 0x3e700000u ? 0x41100000u : size;
    limited.bits = (limited.bits & 0x80000000u) | kept;
    x = limited.value;
    const float s = x * x;
    const float p = (((1.33534144e-8f * s + 2.06081841e-5f) * s + 3.49553442e-3f) * s + 0.133809805f) * s + 1.0f;
    const float q = (((7.77604725e-7f * s + 3.28554626e-4f) * s + 2.58767791e-2f) * s + 0.467142969f) * s + 1.0f;
    return x * p / q;
}
"""

_SIGMOID = """\
static float NET_sigmoid(float x) { return 0.5f + 0.5f * NET_tanh(0.5f * x); }
"""

_FOUR = """\
#if defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
#define MACRO_FOUR /* GCC and Clang have vectors of four floats; plain loops elsewhere */
typedef float NET_four __attribute__((vector_size(16), aligned(4), may_alias));
#endif
"""

_SPARSE = """\
/* y = from + W x over the non-zero weights: how many each row has, then their columns and values. */
static void NET_sparse_TYPE(int rows, const uint16_t *count, const TYPE *column, const float *value,
                            const float *from, const float *x, float *y) {
    for (int row = 0; row < rows; row++) {
        float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
        int left = count[row];
#ifdef MACRO_FOUR
        NET_four sum = {0.0f};
        for (; left >= 4; left -= 4) {
            const NET_four w = {(float)value[0], (float)value[1], (float)value[2], (float)value[3]};
            const NET_four v = {x[column[0]], x[column[1]], x[column[2]], x[column[3]]};
            sum += w * v;
            value += 4;
            column += 4;
        }
        a = sum[0], b = sum[1], c = sum[2], d = sum[3];
#else
        for (; left >= 4; left -= 4) {
            a += value[0] * x[column[0]];
            b += value[1] * x[column[1]];
            c += value[2] * x[column[2]];
            d += value[3] * x[column[3]];
            value += 4;
            column += 4;
        }
#endif
        for (; left > 0; left--) {
            a += *value++ * x[*column++];
        }
        y[row] = (from ? from[row] : 0.0f) + ((a + b) + (c + d));
    }
}
"""

_BLOCK = """\
/* y = from + W x for eight rows of x at once: x column by column, eight floats each, y row by row. */
static void NET_block_TYPE(int rows, const uint16_t *count, const TYPE *column, const float *value,
                           const float *from, const float *x, float *y) {
    for (int row = 0; row < rows; row++) {
        float sum[8] = {0.0f};
        int left = count[row];
#ifdef MACRO_FOUR
        NET_four a = {0.0f}, b = a, c = a, d = a;
        for (; left >= 2; left -= 2) {
            const NET_four *const first = (const NET_four *)(const void *)(x + 8 * column[0]);
            const NET_four *const second = (const NET_four *)(const void *)(x + 8 * column[1]);
            a += (float)value[0] * first[0];
            b += (float)value[0] * first[1];
            c += (float)value[1] * second[0];
            d += (float)value[1] * second[1];
            value += 2;
            column += 2;
        }
        *(NET_four *)(void *)sum = a + c;
        *(NET_four *)(void *)(sum + 4) = b + d;
#endif
        for (; left > 0; left--) {
            const float weight = (float)*value++;
            const float *const at = x + 8 * *column++;
            for (int k = 0; k < 8; k++) {
                sum[k] += weight * at[k];
            }
        }
        for (int k = 0; k < 8; k++) {
            y[k * rows + row] = (from ? from[row] : 0.0f) + sum[k];
        }
    }
}
"""

_DENSE = """\
/* y = from + W x, column by column, so that compilers can use vector instructions. */
static void NET_dense(int rows, int columns, const float *weight, const float *from, const float *x, float *y) {
    for (int row = 0; row < rows; row++) {
        y[row] = from ? from[row] : 0.0f;
    }
    for (int column = 0; column < columns; column++) {
        const float factor = x[column];
        for (int row = 0; row < rows; row++) {
            y[row] += weight[row] * factor;
        }
        weight += rows;
    }
}
"""

_LSTM = """\
/* The gates of an LSTM in the order of PyTorch (input, forget, candidate, output) to its next states. */
static void NET_lstm(int units, const float *gates, float *h, float *c) {
    for (int i = 0; i < units; i++) {
        const float kept = NET_sigmoid(gates[units + i]) * c[i];
        const float next = kept + NET_sigmoid(gates[i]) * NET_tanh(gates[2 * units + i]);
        c[i] = next;
        h[i] = NET_sigmoid(gates[3 * units + i]) * NET_tanh(next);
    }
}
"""

_GRU = """\
/* The gates of a GRU in the order of PyTorch (reset, update, candidate), both parts of each, to its next state. */
static void NET_gru(int units, const float *gates, const float *recurrent, float *h) {
    for (int i = 0; i < units; i++) {
        const float reset = NET_sigmoid(gates[i] + recurrent[i]);
        const float update = NET_sigmoid(gates[units + i] + recurrent[units + i]);
        const float next = NET_tanh(gates[2 * units + i] + reset * recurrent[2 * units + i]);
        h[i] = next + update * (h[i] - next);
    }
}
"""

_LAYER_NORM = """\
static void NET_layer_norm(int rows, int width, float eps, const float *x, const float *scale, const float *shift,
                           float *y) {
    for (int row = 0; row < rows; row++) {
        float mean = 0.0f, variance = 0.0f;
        for (int i = 0; i < width; i++) {
            mean += x[i];
        }
        mean /= (float)width;
        for (int i = 0; i < width; i++) {
            variance += (x[i] - mean) * (x[i] - mean);
        }
        const float factor = 1.0f / sqrtf(variance / (float)width + eps);
        for (int i = 0; i < width; i++) {
            y[i] = (x[i] - mean) * factor * (scale ? scale[i] : 1.0f) + (shift ? shift[i] : 0.0f);
        }
        x += width;
        y += width;
    }
}
"""

_SOFTMAX = """\
static void NET_softmax(int width, float *x) {
    float largest = x[0], sum = 0.0f;
    for (int i = 1; i < width; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (int i = 0; i < width; i++) {
        x[i] = expf(x[i] - largest);
        sum += x[i];
    }
    for (int i = 0; i < width; i++) {
        x[i] /= sum;
    }
}
"""

_ATTENTION = """\
/* One head: each query's softmax over its scaled products with the keys mixes the values. Rows lie `step` apart. */
static void NET_attention(int queries, int keys, int width, int value_width, float scale, const float *q, int q_step,
                          const float *k, int k_step, const float *v, int v_step, float *weights, float *y) {
    for (int i = 0; i < queries; i++) {
        for (int j = 0; j < keys; j++) {
            float product = 0.0f;
            for (int d = 0; d < width; d++) {
                product += q[i * q_step + d] * k[j * k_step + d];
            }
            weights[j] = product * scale;
        }
        NET_softmax(keys, weights);
        for (int d = 0; d < value_width; d++) {
            y[d] = 0.0f;
        }
        for (int j = 0; j < keys; j++) {
            for (int d = 0; d < value_width; d++) {
                y[d] += weights[j] * v[j * v_step + d];
            }
        }
        y += value_width;
    }
}
"""

_RELU = """\
static float NET_relu(float x) { return x < 0.0f ? 0.0f : x; }
"""

_GELU = """\
static float NET_gelu(float x) { return 0.5f * x * (1.0f + erff(0.707106781f * x)); }
"""

_GELU_TANH = """\
static float NET_gelu_tanh(float x) {
    return 0.5f * x * (1.0f + NET_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
}
"""

_SILU = """\
static float NET_silu(float x) { return x * NET_sigmoid(x); }
"""


def _int8(source: str) -> str:
    """Return a product with whole numbers as weights and a scale a row."""
    changes = {
        "NET_sparse_": "NET_sparse8_",
        "NET_block_": "NET_block8_",
        "NET_dense": "NET_dense8",
        "const float *value,": "const int8_t *value, const float *scale,",
        "const float *weight,": "const int8_t *weight, const float *scale,",
        "+ ((a + b) + (c + d))": "+ scale[row] * ((a + b) + (c + d))",
        "+ sum[k]": "+ scale[row] * sum[k]",
        "+= weight[row] * factor": "+= scale[row] * (float)weight[row] * factor",
        "y = from + W x": "y = from + scale W x",
    }
    for before, after in changes.items():
        source = source.replace(before, after)
    return source


_KINDS = ("uint8_t", "uint16_t", "uint32_t")
# In an order in which each stands after what it calls.
_FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tanh": (_TANH, ()),
    "sigmoid": (_SIGMOID, ("tanh",)),
    "relu": (_RELU, ()),
    "gelu": (_GELU, ()),
    "gelu_tanh": (_GELU_TANH, ("tanh",)),
    "silu": (_SILU, ("sigmoid",)),
    "four": (_FOUR, ()),
    **{f"sparse_{kind}": (_SPARSE.replace("TYPE", kind), ("four",)) for kind in _KINDS},
    **{f"sparse8_{kind}": (_int8(_SPARSE).replace("TYPE", kind), ("four",)) for kind in _KINDS},
    **{f"block_{kind}": (_BLOCK.replace("TYPE", kind), ("four",)) for kind in _KINDS},
    **{f"block8_{kind}": (_int8(_BLOCK).replace("TYPE", kind), ("four",)) for kind in _KINDS},
    "dense": (_DENSE, ()),
    "dense8": (_int8(_DENSE), ()),
    "lstm": (_LSTM, ("sigmoid", "tanh")),
    "gru": (_GRU, ("sigmoid", "tanh")),
    "layer_norm": (_LAYER_NORM, ()),
    "softmax": (_SOFTMAX, ()),
    "attention": (_ATTENTION, ("softmax",)),
}


def names_of_functions() -> set[str]:
    """Return the names of all functions."""
    return set(_FUNCTIONS)


def functions(names: set[str]) -> list[str]:
    """Return the source of functions and of those that they call; each begins its names with NET.

    Example:
        >>> "NET_tanh(float x)" in functions({"sigmoid"})[0]
        True
    """
    needed = names | {inner for name in names for inner in _FUNCTIONS[name][1]}
    needed |= {inner for name in needed for inner in _FUNCTIONS[name][1]}
    return [source for name, (source, _) in _FUNCTIONS.items() if name in needed]
