"""Text of the C file and its header from their parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from synaptic_pruning.export.deploy.c_code.constants import Constants
from synaptic_pruning.export.deploy.c_code.library import functions
from synaptic_pruning.export.deploy.c_code.loops import closed_never, literal
from synaptic_pruning.export.deploy.c_code.memory import Function


@dataclass(frozen=True)
class Step:
    """The function that takes one row, and what belongs to it.

    Attributes:
        function: Its statements.
        states: Floats in each recurrent state, by name.
        starts: C names of the values that states start from; "" for zeros.
        row: Shape of a row.
        output: Shape of its output.
        rows: Rows of the example, in order.
        outputs: The outputs after each.
    """

    function: Function
    states: dict[str, int]
    starts: dict[str, str]
    row: Sequence[int]
    output: Sequence[int]
    rows: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class Source:
    """Everything that a C file says.

    Attributes:
        name: Prefix of every name, and the files' stem.
        model: Class of the network.
        version: Version of this package.
        constants: Its weights.
        layers: Source of the functions of recurrent layers.
        forward: Statements of the whole network.
        step: The function that takes one row; None if there is none.
        reason: Why there is none; empty for a network that is not recurrent.
        input: The example.
        output: Its output.
        scratch: Floats of scratch memory.
    """

    name: str
    model: str
    version: str
    constants: Constants
    layers: list[str]
    forward: Function
    step: Step | None
    reason: str
    input: Tensor
    output: Tensor
    scratch: int

    @property
    def state_bytes(self) -> int:
        """Return the size of the state in bytes."""
        return 4 * sum(self.step.states.values()) if self.step else 0

    def header(self) -> str:
        """Return the text of the header."""
        sizes = [
            ("INPUTS", self.input.numel(), f"floats in: {_shape(self.input.shape)}"),
            ("OUTPUTS", self.output.numel(), f"floats out: {_shape(self.output.shape)}"),
        ]
        if self.step:
            sizes += [
                ("ROW", self.step.rows[0].numel(), f"floats of one row: {_shape(self.step.row)}"),
                ("STEP_OUTPUTS", self.step.outputs[0].numel(), f"floats after a row: {_shape(self.step.output)}"),
            ]
        sizes += [
            ("FLASH_BYTES", self.constants.bytes, "bytes of constants; code comes on top"),
            ("SCRATCH_BYTES", 4 * self.scratch, "bytes of static memory"),
        ]
        lines = [
            f"/* {self.name}.h: {self.model}, one sample at a time; see {self.name}.c. Made by synaptic-pruning. */",
            "#ifndef MACRO_H",
            "#define MACRO_H",
            "",
            *(f"#define MACRO_{name} {size} /* {note} */" for name, size, note in sizes),
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* Output y for the window x, both laid out as in PyTorch, row after row. */",
            "void NET_forward(const float *x, float *y);",
            "",
        ]
        if self.step:
            fields = [f"    float {name}[{size}];" for name, size in self.step.states.items()]
            lines += [
                f"/* What the network remembers of earlier rows: {self.state_bytes} bytes. */",
                "typedef struct {",
                *fields,
                "} NET_state;",
                "",
                "/* Start anew; call it before the first step. */",
                "void NET_reset(NET_state *state);",
                "",
                "/* Take one row; y is the output after it, that of NET_forward for all rows since the reset. */",
                "void NET_step(const float *row, float *y, NET_state *state);",
                "",
            ]
        lines += ["#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
        return self._named("\n".join(lines))

    def code(self) -> str:
        """Return the text of the C file."""
        parts = [
            self._introduction(),
            f'#include "{self.name}.h"\n\n#include <math.h>\n#include <stdint.h>\n#include <string.h>\n',
            *("\n".join(array.lines()) + "\n" for array in self.constants.arrays),
        ]
        if self.scratch:
            parts.append(
                "/* One call at a time. For several threads: -DMACRO_LOCAL='static _Thread_local', with C11. */\n"
                "#ifndef MACRO_LOCAL\n#define MACRO_LOCAL static\n#endif\n"
                f"MACRO_LOCAL float NET_scratch[{self.scratch}];\n"
            )
        parts += functions(self.constants.functions)
        parts += self.layers
        parts.append(_function("void NET_forward(const float *x, float *y)", self.forward))
        if self.step:
            parts.append(self._reset())
            parts.append(_function("void NET_step(const float *x, float *y, NET_state *state)", self.step.function))
        parts.append(self._self_test())
        return self._named("\n".join(parts))

    def _introduction(self) -> str:
        rows = [
            f" *   {p.name:32} {f'{p.rows} x {p.columns}':>13} {p.alive:>9} alive  {p.form:6} {p.bytes:>9} bytes"
            for p in self.constants.products.values()
        ]
        usage = [f" *   float x[MACRO_INPUTS], y[MACRO_OUTPUTS];   {_shape(self.input.shape)} in, "
                 f"{_shape(self.output.shape)} out", " *   NET_forward(x, y);"]  # fmt: skip
        if self.step:
            usage += [
                " *",
                " *   NET_state state;                           one row in, one output after it out",
                " *   NET_reset(&state);",
                " *   NET_step(row, y, &state);",
            ]
        elif self.reason:
            usage += [f" * There is no NET_step: {closed_never(self.reason)}."]
        lines = [
            f"/* {self.name}.c: {self.model}, one sample at a time, written by synaptic-pruning {self.version}.",
            " *",
            " * C99 and libm only; no allocation, no input or output. Zeros of pruned weights are not stored.",
            " *",
            *usage,
            " *",
            f" * Constants {self.constants.bytes} bytes (code comes on top), scratch {4 * self.scratch} bytes, "
            f"state {self.state_bytes} bytes. Matrices:",
            *rows,
            " *",
            f" * Test: cc -std=c99 -O3 -DMACRO_SELF_TEST {self.name}.c -lm && ./a.out",
            " */",
            "",
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _reset(self) -> str:
        assert self.step is not None
        lines = [
            f"    memcpy(state->{name}, {start}, sizeof state->{name});"
            if start
            else f"    memset(state->{name}, 0, sizeof state->{name});"
            for name, start in self.step.starts.items()
        ]
        return "\n".join(["void NET_reset(NET_state *state) {", *lines, "}", ""])

    def _self_test(self) -> str:
        lines = [
            "#ifdef MACRO_SELF_TEST",
            "#include <stdio.h>",
            "",
            *_numbers("test_x", self.input),
            *_numbers("test_y", self.output),
            *(_numbers("test_rows", self.step.rows) if self.step else []),
            *(_numbers("test_steps", self.step.outputs) if self.step else []),
            "",
            "/* Largest difference, relative to outputs above 1. NaN counts. */",
            "static float NET_gap(int size, const float *got, const float *want, float largest) {",
            "    for (int i = 0; i < size; i++) {",
            "        const float size_of_it = fabsf(want[i]) > 1.0f ? fabsf(want[i]) : 1.0f;",
            "        const float gap = fabsf(got[i] - want[i]) / size_of_it;",
            "        largest = largest == largest && !(gap <= largest) ? gap : largest;",
            "    }",
            "    return largest;",
            "}",
            "",
            "int main(void) {",
            "    static float y[MACRO_OUTPUTS];",
            "    NET_forward(NET_test_x, y);",
            "    float gap = NET_gap(MACRO_OUTPUTS, y, NET_test_y, 0.0f);",
            '    printf("forward: largest difference from PyTorch %g\\n", (double)gap);',
            "    int failed = !(gap <= 1e-5f);",
        ]
        if self.step:
            rows = len(self.step.rows)
            lines += [
                "    static NET_state state;",
                "    static float after[MACRO_STEP_OUTPUTS];",
                "    gap = 0.0f;",
                "    NET_reset(&state);",
                f"    for (int t = 0; t < {rows}; t++) {{",
                "        NET_step(NET_test_rows + t * MACRO_ROW, after, &state);",
                "        gap = NET_gap(MACRO_STEP_OUTPUTS, after, NET_test_steps + t * MACRO_STEP_OUTPUTS, gap);",
                "    }",
                f'    printf("step: largest difference over {rows} rows %g\\n", (double)gap);',
                "    failed |= !(gap <= 1e-5f);",
            ]
        lines += ['    printf(failed ? "FAILED\\n" : "passed\\n");', "    return failed;", "}", "#endif", ""]
        return "\n".join(lines)

    def _named(self, text: str) -> str:
        return text.replace("NET_", f"{self.name}_").replace("MACRO_", f"{self.name.upper()}_")


def _function(head: str, function: Function) -> str:
    placed, _ = function.place()
    lines = [f"float *const {b.name} = NET_scratch + {b.offset}; /* {b.size} floats */" for b in placed]
    for statement in function.lines:
        lines += ["", *statement] if statement[0].startswith("/*") else statement
    return "\n".join([f"{head} {{", *(f"    {line}".rstrip() for line in lines), "}", ""])


def _numbers(name: str, x: Tensor) -> list[str]:
    values = [literal(v) for v in x.flatten().tolist()]
    rows = [f"    {', '.join(values[i : i + 8])}," for i in range(0, len(values), 8)]
    return [f"static const float NET_{name}[{len(values)}] = {{", *rows, "};"]


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"
