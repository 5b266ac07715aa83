"""Weights as constant C arrays: each once, matrices dense or packed, whichever takes fewer bytes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from synaptic_pruning.export.deploy.c_code.library import names_of_functions
from synaptic_pruning.export.deploy.c_code.loops import comment_lines, literal

_BYTES = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2, "uint32_t": 4}
_TAKEN = {"forward", "step", "reset", "state", "scratch", "gap", "test_x", "test_y", "test_rows", "test_steps"}
_LONGEST_ROW = 2**16 - 1  # counts are uint16_t


@dataclass(frozen=True)
class Array:
    """A constant array of a C file."""

    name: str
    kind: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def bytes(self) -> int:
        """Return its size in bytes."""
        return len(self.values) * _BYTES[self.kind]

    def lines(self) -> list[str]:
        """Return its definition."""
        texts = [literal(v) if self.kind == "float" else str(v) for v in self.values]
        rows, row = list[str](), "   "
        for text in texts:
            if len(row) + len(text) + 2 > 120:
                rows.append(row)
                row = "   "
            row += f" {text},"
        return [
            *comment_lines(self.note),
            f"static const {self.kind} NET_{self.name}[{len(texts)}] = {{",
            *rows,
            row,
            "};",
        ]


@dataclass(frozen=True)
class Product:
    """A constant matrix in a C file, and the call that multiplies by it.

    Attributes:
        name: Its name in the model.
        form: "dense" or "sparse".
        rows: Number of outputs.
        columns: Number of inputs.
        alive: Number of weights that are not 0.
        bytes: Bytes of its arrays.
        function: Name of the C function.
        arguments: First arguments of the call.
    """

    name: str
    form: str
    rows: int
    columns: int
    alive: int
    bytes: int
    function: str
    arguments: str

    def call(self, start: str, x: str, y: str) -> str:
        """Return the statement ``y = start + W x``; ``start`` is a vector of outputs or NULL."""
        return f"NET_{self.function}({self.arguments}, {start}, {x}, {y});"

    @property
    def block(self) -> str:
        """Return the name of the C function that multiplies `BLOCK` rows at once, for the sparse form."""
        return self.function.replace("sparse", "block")

    def block_call(self, start: str, x: str, y: str) -> str:
        """Return the statement that is `call` for `BLOCK` rows: ``x`` column by column, ``y`` row by row."""
        return f"NET_{self.block}({self.arguments}, {start}, {x}, {y});"


class Constants:
    """The constant arrays of one C file; equal arrays are written once.

    Args:
        int8: Store matrices that `round_rows` has rounded as whole numbers and a scale a row.

    Attributes:
        arrays: What the file holds.
        products: Matrices among them.
        functions: Names of the functions in `library` that the file calls.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self.arrays: list[Array] = []
        self.products: dict[str, Product] = {}
        self.functions: set[str] = set()
        self._by_content: dict[tuple[str, tuple[float, ...]], str] = {}
        self._names = _TAKEN | names_of_functions()

    @property
    def bytes(self) -> int:
        """Return the size of all arrays in bytes."""
        return sum(array.bytes for array in self.arrays)

    def vector(self, name: str, values: Tensor | None) -> str:
        """Return the C name of float32 numbers; NULL for None."""
        if values is None:
            return "NULL"
        if not bool(values.isfinite().all()):
            raise ValueError(f"model must have finite numbers only, but {name} holds infinities or NaN")
        return self._array(name, "float", values.detach().float().flatten().tolist())

    def product(self, name: str, weight: Tensor) -> Product:
        """Return a matrix (outputs, inputs) in the form that takes fewer bytes; dense where both take as many."""
        weight = weight.detach().float()
        rows, columns = weight.shape
        counts = weight.count_nonzero(1).tolist()
        kind = "uint8_t" if columns <= 2**8 else "uint16_t" if columns <= 2**16 else "uint32_t"
        levels, scales = _levels(weight)
        # A weight that was not rounded, such as one that the model computes, stays as it is.
        whole = self.int8 and bool(
            ((levels * scales - weight).abs() <= 1e-6 * weight.abs().amax(1, keepdim=True)).all()
        )
        stored, each, suffix = (levels, "int8_t", "8") if whole else (weight, "float", "")
        packed = sum(counts) * (_BYTES[each] + _BYTES[kind]) + 2 * rows
        fits = max(counts, default=0) <= _LONGEST_ROW
        before = self.bytes
        if packed < _BYTES[each] * rows * columns and fits:
            at = weight.nonzero(as_tuple=True)
            note = f"{name}: {rows} x {columns}, {sum(counts)} weights that are not 0"
            arrays = [
                self._array(f"{name}_counts", "uint16_t", counts, note),
                self._array(f"{name}_columns", kind, at[1].tolist()),
                self._numbers(f"{name}_values", each, stored[at]),
            ]
            form, function, arguments = "sparse", f"sparse{suffix}_{kind}", f"{rows}, {', '.join(arrays)}"
        else:
            arrays = [self._numbers(f"{name}_by_column", each, stored.T)]
            form, function, arguments = "dense", f"dense{suffix}", f"{rows}, {columns}, {arrays[0]}"
        if whole:
            arguments += f", {self.vector(f'{name}_scales', scales)}"
        self.functions.add(function)
        made = Product(name, form, rows, columns, sum(counts), self.bytes - before, function, arguments)
        return self.products.setdefault(arguments, made)

    def unique(self, name: str) -> str:
        """Return a C name, with a number where it is taken."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        number, free = 2, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number}"
        self._names.add(free)
        return free

    def _numbers(self, name: str, kind: str, values: Tensor) -> str:
        if kind == "float":
            return self.vector(name, values)
        return self._array(name, kind, values.flatten().int().tolist())

    def _array(self, name: str, kind: str, values: Sequence[float], note: str = "") -> str:
        values = tuple(values) or (0,)  # C has no empty arrays
        key = kind, values
        if key not in self._by_content:
            self._by_content[key] = self.unique(name)
            self.arrays.append(Array(self._by_content[key], kind, values, note))
        return f"NET_{self._by_content[key]}"


def round_rows(weight: Tensor) -> Tensor:
    """Return a weight with every row (along its first dimension) rounded to 255 levels, from -max to max of the row.

    Example:
        >>> import torch
        >>> round_rows(torch.tensor([[127.0, 1.4, 0.0]]))
        tensor([[127.,   1.,   0.]])
    """
    levels, scales = _levels(weight.flatten(1))
    return (levels * scales).view(weight.shape)


def _levels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers from -127 to 127 (rows, columns) and the scale of each row (rows, 1)."""
    scales = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scales.where(scales > 0, 1)).round(), scales
