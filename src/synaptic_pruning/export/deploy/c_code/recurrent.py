"""RNN, LSTM and GRU layers as C functions of one step, and the loops that run them over a window."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from synaptic_pruning.export.deploy.c_code.constants import Constants
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
        names, inputs = [], weights[0].shape[1]
        for number in range(count * directions):
            own = weights[number * each : (number + 1) * each]
            name = f"{title}_l{number // directions}{'_reverse' if number % directions else ''}"
            names.append(self._layer(name, mode, own, units, output != units))
        gates = {"lstm": 4, "gru": 6}.get(mode, 1) + (1 if output != units else 0)
        return Stack(names, inputs, output, units, gates * units, directions, mode == "lstm")

    def _layer(self, name: str, mode: str, weights: list[Tensor], units: int, projected: bool) -> str:
        inner, recurrent = (self.constants.product(f"{name}_{what}", w) for what, w in zip("xh", weights, strict=False))
        biases = weights[2:4] if len(weights) > 3 else [None, None]
        calls = []
        if mode == "gru":
            vectors = [self.constants.vector(f"{name}_bias_{what}", b) for what, b in zip("xh", biases, strict=True)]
            calls += [inner.call(vectors[0], "x", "gates")]
            calls += [recurrent.call(vectors[1], "h", f"gates + {3 * units}")]
            calls += [f"NET_gru({units}, gates, gates + {3 * units}, h);"]
        else:
            bias = None if biases[0] is None or biases[1] is None else biases[0].double() + biases[1].double()
            start = self.constants.vector(f"{name}_bias", bias)
            calls += [inner.call(start, "x", "gates"), recurrent.call("gates", "h", "gates")]
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
        rest = f"(const float *x, float *h, {cell}float *gates) {{\n" + "".join(f"    {c}\n" for c in calls) + "}\n"
        if rest not in self._names:
            self._names[rest] = f"NET_{self.constants.unique(name)}"
            self.sources.append(f"/* One step of {name}. */\nstatic void {self._names[rest]}{rest}")
        return self._names[rest]


@dataclass(frozen=True)
class Stack:
    """The layers of one RNN, LSTM or GRU.

    Attributes:
        names: The function of each layer and direction.
        inputs: Width of its inputs.
        output: Width of one direction's outputs.
        units: Units of each layer.
        gates: Floats of scratch that a step needs.
        directions: 1, or 2 if bidirectional.
        has_cell: Whether there is a cell state, as in an LSTM.
    """

    names: list[str]
    inputs: int
    output: int
    units: int
    gates: int
    directions: int
    has_cell: bool

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
        source, lines = _at(x, "t", self.inputs) if steps > 1 else x, []
        for number in range(len(self.names)):
            lines.append(self._step(number, source, states, gates))
            source = _offset(states[0], number * self.output)
        if rows is not None:
            lines += self._keep(source, f"{rows}[t * {self.output} + i]")
        return _over(lines, steps), []

    def _run_both_ways(
        self, x: str, states: Sequence[str], gates: Buffer, steps: int, rows: str | None, function: Function
    ) -> tuple[list[str], list[Buffer]]:
        width, lines, used = 2 * self.output, list[str](), list[Buffer]()
        source, inputs = x, self.inputs
        for number in range(len(self.names)):
            backward = number % 2 == 1
            if not backward:
                target = rows
                if number + 2 < len(self.names):
                    used.append(function.scratch(steps * width))
                    target = used[-1].name
            step = self._step(number, _at(source, "t", inputs), states, gates)
            at = self.output if backward else 0
            kept = self._keep(
                _offset(states[0], number * self.output), f"{target}[t * {width} + {f'{at} + ' if at else ''}i]"
            )
            lines += _over([step, *kept], steps, backward, always=True)
            if backward:
                source, inputs = str(target), width
        return lines, used

    def _step(self, number: int, source: str, states: Sequence[str], gates: Buffer) -> str:
        own = [_offset(states[0], number * self.output)]
        own += [_offset(states[1], number * self.units)] if self.has_cell else []
        return f"{self.names[number]}({', '.join([source, *own, gates.name])});"

    def _keep(self, source: str, target: str) -> list[str]:
        return [f"for (int i = 0; i < {self.output}; i++) {{", f"    {target} = ({source})[i];", "}"]


def _over(lines: list[str], steps: int, backward: bool = False, always: bool = False) -> list[str]:
    """Return lines in a loop over the rows of a window."""
    if steps == 1 and not always:
        return lines
    loop = f"for (int t = {steps - 1}; t >= 0; t--) {{" if backward else f"for (int t = 0; t < {steps}; t++) {{"
    return [loop, *(f"    {line}" for line in lines), "}"]


def _at(x: str, index: str, width: int) -> str:
    return f"{x} + {index} * {width}"


def _offset(x: str, offset: int) -> str:
    return f"{x} + {offset}" if offset else x
