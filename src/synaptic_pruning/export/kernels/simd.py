"""Vector registers for Numba: the operations of the sparse kernels as explicit LLVM vectors.

A `Vector` value is a register of float32 lanes that Numba code can keep in a local variable. Explicit registers
keep the accumulators of a row out of memory; the auto-vectoriser gives no such guarantee.

One table lookup picks ``LANES`` values out of ``BLOCK``: 16 out of 32 with AVX-512, 8 out of 8 with AVX2. Other
processors get the code for 8 lanes, lowered lane by lane.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_FLOAT = ir.FloatType()
_INT32 = ir.IntType(32)
TILE_LANES = 16  # a tile holds this many samples, however many registers that takes


def _host_has(feature: str) -> bool:
    if config.CPU_FEATURES is not None:  # NUMBA_CPU_FEATURES overrides what the processor says
        return f"+{feature}" in config.CPU_FEATURES.split(",")
    return bool(binding.get_host_cpu_features().get(feature, False))


_AVX512 = _host_has("avx512f")
_AVX2 = _host_has("avx2")
LANES, BLOCK = (16, 32) if _AVX512 else (8, 8)


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that Numba compiles, without the interpreter lock and cached on disk."""

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # Numba finds no folder to write its cache to
            return njit(nogil=True, **options)(function)

    return compiled


class Vector(types.Type):
    """Numba type of a register of `lanes` float32 values."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.llvm = ir.VectorType(_FLOAT, lanes)
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT32, 0))
    lanes = ir.Constant(ir.VectorType(_INT32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


def _load(vector: Vector) -> Any:
    @intrinsic
    def load(typing: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
        """Return the register ``array[index : index + lanes]``; no alignment needed, no bounds checked."""

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], *args)
            value = builder.load(builder.bitcast(address, vector.llvm.as_pointer()))
            value.align = 4
            return value

        return vector(array, types.intp), lower

    return load


def _broadcast(vector: Vector) -> Any:
    @intrinsic
    def broadcast(typing: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
        """Return a register with ``value`` in every lane."""

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _splat(builder, args[0], vector.llvm)

        return vector(types.float32), lower

    return broadcast


lookup_vector, tile_vector = Vector(LANES), Vector(TILE_LANES)
load_lanes, broadcast_lanes = _load(lookup_vector), _broadcast(lookup_vector)
load_tile, broadcast_tile = _load(tile_vector), _broadcast(tile_vector)


@intrinsic
def pointer(typing: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
    """Return a pointer to an address, for `numba.carray`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), lower


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set ``array[index : index + lanes]`` to the register ``value``."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        pointer = builder.bitcast(address, signature.args[2].llvm.as_pointer())
        builder.store(args[2], pointer).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, value), lower


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``a * b + c`` lane by lane, in one instruction where the processor has it."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(args[0], args[1], flags=["contract"])
        return builder.fadd(product, args[2], flags=["contract"])

    return a(a, b, c), lower


@intrinsic
def divide(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``a / b`` lane by lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fdiv(args[0], args[1])

    return a(a, b), lower


@intrinsic
def square_root(typing: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the square root lane by lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        kind, name = ir.FunctionType(vector, [vector]), f"llvm.sqrt.v{vector.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a), lower


@intrinsic
def clamp(typing: Any, a: Any, low: Any, high: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``a`` limited to [``low``, ``high``] lane by lane; NaN stays NaN."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, low, high = args
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)

    return a(a, low, high), lower


@intrinsic
def add_to_exponent(typing: Any, value: Any, shifted: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``value * 2**n`` lane by lane; ``shifted`` is n + 1.5 · 2²³, and no exponent may overflow."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = signature.args[0].llvm
        whole = ir.VectorType(_INT32, vector.count)
        bits, power = (builder.bitcast(a, whole) for a in args)
        raised = builder.add(bits, builder.shl(power, ir.Constant(whole, [23] * vector.count)))
        return builder.bitcast(raised, vector)

    return value(value, shifted), lower


@intrinsic
def lookup(typing: Any, table: Any, rest: Any, indices: Any, start: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``table[indices[start : start + LANES]]`` from a table of BLOCK values.

    With AVX-512 ``rest`` is the second half of the table. Elsewhere the table is one register, ``rest`` is unused.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow, wide = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(_INT32, LANES)
        pointer = builder.bitcast(_address(context, builder, signature.args[2], args[2], args[3]), narrow.as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 1
        lanes, vector = builder.zext(loaded, wide), lookup_vector.llvm
        if _AVX512:
            kind = ir.FunctionType(vector, [vector, wide, vector])
            name = "llvm.x86.avx512.vpermi2var.ps.512"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[0], lanes, args[1]])
        if _AVX2:
            kind = ir.FunctionType(vector, [vector, wide])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.permps")
            return builder.call(function, [args[0], lanes])
        all_lanes = ir.Constant(ir.VectorType(_INT32, 2 * LANES), list(range(2 * LANES)))
        whole, picked = builder.shuffle_vector(args[0], args[1], all_lanes), ir.Constant(vector, ir.Undefined)
        for lane in range(LANES):
            position = ir.Constant(_INT32, lane)
            value = builder.extract_element(whole, builder.extract_element(lanes, position))
            picked = builder.insert_element(picked, value, position)
        return picked

    return table(table, rest, indices, types.intp), lower


@intrinsic
def transpose_square(
    typing: Any, source: Any, start: Any, stride: Any, target: Any, at: Any, step: Any
) -> tuple[Any, Callable[..., Any]]:
    """Transpose TILE_LANES x TILE_LANES values in registers; rows are ``stride`` and ``step`` apart."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = tile_vector.llvm
        masks = ir.VectorType(_INT32, TILE_LANES)
        half = TILE_LANES // 2
        low = ir.Constant(masks, [lane // 2 + lane % 2 * TILE_LANES for lane in range(TILE_LANES)])
        high = ir.Constant(masks, [half + lane // 2 + lane % 2 * TILE_LANES for lane in range(TILE_LANES)])

        def row(array: int, first: int, distance: int, number: int) -> Any:
            offset = builder.mul(args[distance], ir.Constant(args[distance].type, number))
            place = builder.add(args[first], offset)
            address = _address(context, builder, signature.args[array], args[array], place)
            return builder.bitcast(address, vector.as_pointer())

        rows = [builder.load(row(0, 1, 2, number)) for number in range(TILE_LANES)]
        for loaded in rows:
            loaded.align = 4
        for _ in range(TILE_LANES.bit_length() - 1):  # each pass interleaves the two halves of the rows
            rows = [
                builder.shuffle_vector(rows[number], rows[number + half], mask)
                for number in range(half)
                for mask in (low, high)
            ]
        for number, value in enumerate(rows):
            builder.store(value, row(3, 4, 5, number)).align = 4
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), lower
