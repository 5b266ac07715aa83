"""RNN, LSTM and GRU layers as C functions of one step, and the loops that run them over a window.

A step is the product with the layer's inputs, then a function of the states. The product needs no state, so a layer
with many weights takes it for `BLOCK` rows of a window at once: each weight is read once for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from synaptic_pruning.export.deploy.c_code.constants import Constants, Product
from synaptic_pruning.export.deploy.c_code.library import BLOCK
from synaptic_pruning.export.deploy.c_code.memory import Buffer, Function

MODES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Operations of PyTorch that run recurrent layers, with their number of gates."""


class Layers:
    """The functions of all recurrent layers of one C file; each is written once.

    Args:
        constants: Where their weights go.

    Attributes:
        sources: C source of the functions.
    """

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.sources: list[str] = []
        self._names: dict[str, str] = {}  # by the rest of their source

    def add(
        self, title: str, mode: str, weights: list[Tensor], count: int, bidirectional: bool, output: int
    ) -> "Stack":
        """Write the functions of one stack of layers.

        Args:
            title: The layer's name in C.
            mode: One of `MODES`.
            weights: The weights of all layers in the order of PyTorch.
            count: Number of layers.
            bidirectional: Whether each has a second direction.
            output: Width of its outputs: units, or those of the projection.
        """
        directions = 2 if bidirectional else 1
        each = len(weights) // (count * directions)
        units = weights[0].shape[0] // MODES[mode]
        layers = []
        for number in range(count * directions):
            own = weights[number * each : (number + 1) * each]
            name = f"{title}_l{number // directions}{'_reverse' if number % directions else ''}"
            layers.append(self._layer(name, mode, own, units, output != units))
        gates = {"lstm": 4, "gru": 6}.get(mode, 1) + (1 if output != units else 0)
        return Stack(layers, output, units, gates * units, directions, mode == "lstm", self.constants.functions)

    def _layer(self, name: str, mode: str, weights: list[Tensor], units: int, projected: bool) -> "Layer":
        inner, recurrent = (self.constants.product(f"{name}_{what}", w) for what, w in zip("xh", weights, strict=False))
        biases = weights[2:4] if len(weights) > 3 else [None, None]
        calls = []
        if mode == "gru":
            start, other = (
                self.constants.vector(f"{name}_bias_{what}", b) for what, b in zip("xh", biases, strict=True)
            )
            calls += [recurrent.call(other, "h", f"gates + {3 * units}")]
            calls += [f"NET_gru({units}, from, gates + {3 * units}, h);"]
        else:
            bias = None if biases[0] is None or biases[1] is None else biases[0].double() + biases[1].double()
            start = self.constants.vector(f"{name}_bias", bias)
            calls += [recurrent.call("from", "h", "gates")]
            full = f"gates + {4 * units}" if projected else "h"
            if mode == "lstm":
                calls += [f"NET_lstm({units}, gates, {full}, c);"]
            else:
                function = mode.removeprefix("rnn_")
                self.constants.functions.add(function)
                calls += [f"for (int i = 0; i < {units}; i++) {{", f"    h[i] = NET_{function}(gates[i]);", "}"]
        if mode in ("lstm", "gru"):
            self.constants.functions.add(mode)
        if projected:
            calls += [self.constants.product(f"{name}_projection", weights[-1]).call("NULL", full, "h")]
        cell = "float *c, " if mode == "lstm" else ""
        rest = f"(const float *from, float *h, {cell}float *gates) {{\n" + "".join(f"    {c}\n" for c in calls) + "}\n"
        if rest not in self._names:
            self._names[rest] = f"NET_{self.constants.unique(name)}"
            says = f"/* One step of {name}, from the product with its inputs. */"
            self.sources.append(f"{says}\nstatic void {self._names[rest]}{rest}")
        return Layer(self._names[rest], inner, start)


@dataclass(frozen=True)
class Layer:
    """One direction of one recurrent layer.

    Attributes:
        name: The function of a step, from the product with the inputs.
        inner: The matrix of that product.
        start: What the product is added to: the name of a vector, or NULL.
    """

    name: str
    inner: Product
    start: str

    def in_blocks(self, steps: int) -> bool:
        """Return whether `BLOCK` rows are multiplied at once: where that takes less memory than the weights."""
        needed = 4 * BLOCK * (self.inner.rows + self.inner.columns)
        return steps > BLOCK and self.inner.form == "sparse" and self.inner.bytes > needed


@dataclass(frozen=True)
class Stack:
    """The layers of one RNN, LSTM or GRU.

    Attributes:
        layers: Each layer and direction.
        output: Width of one direction's outputs.
        units: Units of each layer.
        gates: Floats of scratch that a step needs.
        directions: 1, or 2 if bidirectional.
        has_cell: Whether there is a cell state, as in an LSTM.
        functions: Names of the functions in `library` that the file calls.
    """

    layers: list[Layer]
    output: int
    units: int
    gates: int
    directions: int
    has_cell: bool
    functions: set[str]

    def run(
        self, x: str, states: Sequence[str], gates: Buffer, steps: int, rows: str | None, function: Function
    ) -> tuple[list[str], list[Buffer]]:
        """Return the lines that run a window through all layers, and the scratch arrays that they need besides.

        Args:
            x: The window, row after row.
            states: The states of all layers, h and for an LSTM c.
            gates: Scratch for the gates.
            steps: Number of rows.
            rows: Where the last layer's outputs of every row go; None if none is read but the last state.
            function: Where scratch arrays come from.
        """
        if self.directions == 2:
            return self._run_both_ways(x, states, gates, steps, rows, function)
        if any(layer.in_blocks(steps) for layer in self.layers):
            return self._run_in_blocks(x, states, gates, steps, rows, function)
        source, lines = _at(x, "t", self.layers[0].inner.columns) if steps > 1 else x, []
        for number in range(len(self.layers)):
            lines += self._step(number, source, states, gates)
            source = _offset(states[0], number * self.output)
        if rows is not None:
            lines += self._keep(source, f"{rows}[t * {self.output} + i]")
        return _over(lines, steps), []

    def _run_in_blocks(
        self, x: str, states: Sequence[str], gates: Buffer, steps: int, rows: str | None, function: Function
    ) -> tuple[list[str], list[Buffer]]:
        """As `run`, a block of rows at a time. Layers that begin with a block product part the stack."""
        blocked = [number for number, layer in enumerate(self.layers) if layer.in_blocks(steps)]
        inputs = function.scratch(BLOCK * max(self.layers[number].inner.columns for number in blocked))
        products = function.scratch(BLOCK * max(self.layers[number].inner.rows for number in blocked))
        lines = [f"const int rows = {steps} - s < {BLOCK} ? {steps} - s : {BLOCK};"]
        if steps % BLOCK == 0:
            lines = [f"const int rows = {BLOCK};"]
        if blocked[0] == 0:
            width = self.layers[0].inner.columns
            lines += _over(_copy(_at(x, "(s + t)", width), f"{inputs.name}[{BLOCK} * i + t]", width), "rows")
        parts = sorted({0, *blocked})
        for first, after in zip(parts, [*parts[1:], len(self.layers)], strict=True):
            layer, body = self.layers[first], list[str]()
            if first in blocked:
                self.functions.add(layer.inner.block)
                lines.append(layer.inner.block_call(layer.start, inputs.name, products.name))
                body.append(self._rest(first, _at(products.name, "t", layer.inner.rows), states, gates))
            else:
                body += self._step(first, _at(x, "(s + t)", layer.inner.columns), states, gates)
            for number in range(first + 1, after):
                body += self._step(number, _offset(states[0], (number - 1) * self.output), states, gates)
            last = _offset(states[0], (after - 1) * self.output)
            if after < len(self.layers):
                body += self._keep(last, f"{inputs.name}[{BLOCK} * i + t]")
            elif rows is not None:
                body += self._keep(last, f"{rows}[(s + t) * {self.output} + i]")
            lines += _over(body, "rows")
        return _loop(f"int s = 0; s < {steps}; s += {BLOCK}", lines), [inputs, products]

    def _run_both_ways(
        self, x: str, states: Sequence[str], gates: Buffer, steps: int, rows: str | None, function: Function
    ) -> tuple[list[str], list[Buffer]]:
        width, lines, used = 2 * self.output, list[str](), list[Buffer]()
        source, inputs = x, self.layers[0].inner.columns
        for number in range(len(self.layers)):
            backward = number % 2 == 1
            if not backward:
                target = rows
                if number + 2 < len(self.layers):
                    used.append(function.scratch(steps * width))
                    target = used[-1].name
            step = self._step(number, _at(source, "t", inputs), states, gates)
            at = self.output if backward else 0
            kept = self._keep(
                _offset(states[0], number * self.output), f"{target}[t * {width} + {f'{at} + ' if at else ''}i]"
            )
            lines += _over([*step, *kept], steps, backward, always=True)
            if backward:
                source, inputs = str(target), width
        return lines, used

    def _step(self, number: int, source: str, states: Sequence[str], gates: Buffer) -> list[str]:
        layer = self.layers[number]
        return [layer.inner.call(layer.start, source, gates.name), self._rest(number, gates.name, states, gates)]

    def _rest(self, number: int, product: str, states: Sequence[str], gates: Buffer) -> str:
        own = [_offset(states[0], number * self.output)]
        own += [_offset(states[1], number * self.units)] if self.has_cell else []
        return f"{self.layers[number].name}({', '.join([product, *own, gates.name])});"

    def _keep(self, source: str, target: str) -> list[str]:
        return _copy(source, target, self.output)


def _over(lines: list[str], steps: int | str, backward: bool = False, always: bool = False) -> list[str]:
    """Return lines in a loop over the rows of a window, or of a block with as many as a variable says."""
    if steps == 1 and not always:
        return lines
    return _loop(f"int t = {steps} - 1; t >= 0; t--" if backward else f"int t = 0; t < {steps}; t++", lines)


def _copy(source: str, target: str, width: int) -> list[str]:
    """Return a loop that gives the first ``width`` numbers of an array to the places ``target``, which names i."""
    return _loop(f"int i = 0; i < {width}; i++", [f"{target} = ({source})[i];"])


def _loop(head: str, lines: list[str]) -> list[str]:
    return [f"for ({head}) {{", *(f"    {line}" for line in lines), "}"]


def _at(x: str, index: str, width: int) -> str:
    return f"{x} + {index} * {width}"


def _offset(x: str, offset: int) -> str:
    return f"{x} + {offset}" if offset else x
