"""Write a network as a C file and its header, checked as far as Python can."""

import copy
import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from synaptic_pruning.export.batch import describe_difference, difference, find_batch
from synaptic_pruning.export.deploy.c_code.constants import Constants, Product, round_rows
from synaptic_pruning.export.deploy.c_code.lowering import Lowering
from synaptic_pruning.export.deploy.c_code.recurrent import Layers
from synaptic_pruning.export.deploy.c_code.writing import Source, Step
from synaptic_pruning.export.deploy.onnx import first_line, quietly
from synaptic_pruning.export.deploy.streaming import NoStreaming, recurrent_layers, streaming
from synaptic_pruning.export.shrinking import as_arguments, check_runs, shrink
from synaptic_pruning.export.sparse import Inference
from synaptic_pruning.export.unfused import unfuse

_TOLERANCE = 1e-5  # of the largest output, in float32


@dataclass(frozen=True)
class CReport:
    """What `to_c` wrote; print it for a table.

    Attributes:
        path: The C file.
        header: Its header.
        flash: Bytes of constants; code comes on top.
        scratch: Bytes of static memory.
        state: Bytes of the state struct; 0 without a step.
        steps: Whether there is a function that takes one row.
        reason: Why a recurrent network has none; empty otherwise.
        error: Largest difference of an output that rounding weights to int8 made, on the example and on random numbers.
        products: Its matrices.
    """

    path: Path
    header: Path
    flash: int
    scratch: int
    state: int
    steps: bool
    reason: str
    error: float
    products: tuple[Product, ...]

    def __str__(self) -> str:
        width = max([6, *(len(p.name) for p in self.products)])
        lines = [f"{'matrix':{width}}  {'size':>13}  {'alive':>9}  form    {'bytes':>9}"]
        lines += [
            f"{p.name:{width}}  {f'{p.rows} x {p.columns}':>13}  {p.alive:9}  {p.form:6}  {p.bytes:9}"
            for p in self.products
        ]
        name = self.path.stem
        calls = f"{name}_forward, {name}_step" if self.steps else f"{name}_forward"
        lines.append(
            f"{self.path}: {calls}; flash {self.flash} bytes and the code, RAM {self.scratch + self.state} bytes "
            f"({self.scratch} scratch, {self.state} state) and the stack"
        )
        if self.error:
            lines.append(f"int8: outputs differ by up to {self.error:.1e} on the example and on random numbers")
        if self.reason:
            lines.append(f"no {name}_step: {self.reason}")
        return "\n".join(lines)


def to_c(
    model: nn.Module,
    example_input: Tensor,
    path: str | os.PathLike[str],
    *,
    values: Literal["float32", "int8"] = "float32",
) -> CReport:
    """Write a network as one C99 file and its header, for one sample at a time; no libraries but libm.

    The network is shrunk (see `shrink`). Weights are constants: matrices without their zeros where that takes fewer
    bytes. Nothing is allocated. A batch norm right after a Linear or Conv1d is folded into it. ``net.c`` holds
    ``net_forward`` and, for a recurrent network that `streaming` takes, ``net_step``, ``net_reset`` and
    ``net_state``. Compiled with ``-DNET_SELF_TEST`` it is a program that checks the example's outputs.

    What is read is the computation that ``torch.export`` traces: Linear, Conv1d, RNN, LSTM, GRU, norms in evaluation
    mode, attention without masks, activations, sums and element-wise arithmetic in float32, reshaping, slicing and
    joining. The traced network is compared with the model on the example and on random numbers. The C code is only as
    good as its self-test, since no compiler need be at hand here.

    Args:
        model: The network, not compacted; float32. It is not changed.
        example_input: A float32 tensor of the shape that it runs on. Of several samples the first is taken.
        path: The C file to write, such as "net.c". Its stem begins every name in it. The header lies beside it.
        values: How weights of Linear, Conv1d and recurrent layers are stored. "int8" keeps 255 levels a row: each is
            off by at most max|row| / 254, and the report says how far the outputs are. Sums are float32 either way.

    Returns:
        A printable `CReport`.

    Raises:
        ValueError: Something in the model cannot be written, and is named; or ``path`` or ``example_input`` does not
            fit. Nothing is written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_c(nn.Linear(4, 2), torch.zeros(1, 4), f"{folder}/net.c").flash
        40
    """
    path = check_c_path(path)
    if values not in ("float32", "int8"):
        raise ValueError(f'values must be "float32" or "int8", not {values!r}')
    inputs = as_arguments(example_input)
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].dtype != torch.float32 or inputs[0].dim() < 1:
        raise ValueError("example_input must be one float32 tensor; other inputs cannot be written as C")
    for name, module in model.named_modules():
        if isinstance(module, Inference):
            raise ValueError(f"model holds {type(module).__name__} ({name or 'itself'}); give the model before compact")
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and weight.dtype != torch.float32:
            raise ValueError(f"model must be float32, but {name} is {weight.dtype}; give model.float()")
    original = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    x = inputs[0].detach().cpu()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        check_runs(original, (x,))
        output = original(x)
        if not isinstance(output, Tensor):
            raise ValueError(f"model must return one tensor to be written as C, not a {type(output).__name__}")
        x = _one_sample(original, x)
        plain = unfuse(copy.deepcopy(shrink(original, x)))
        reference, error = original, 0.0
        if values == "int8":
            reference = copy.deepcopy(_round_weights(plain))
            error = max(difference(original(given), reference(given)) for given in (x, _noise(x)))
        for module in plain.modules():
            if getattr(module, "inplace", False):  # the comparison below tells whether anybody sees it
                module.inplace = False  # type: ignore[assignment]
        source = _source(path.stem, reference, plain, x, Constants(values == "int8"))
        texts = {path.with_suffix(".h"): source.header(), path: source.code()}
    _write(texts)
    return CReport(
        path,
        path.with_suffix(".h"),
        source.constants.bytes,
        4 * source.scratch,
        source.state_bytes,
        source.step is not None,
        source.reason,
        error,
        tuple(source.constants.products.values()),
    )


def check_c_path(path: str | os.PathLike[str]) -> Path:
    """Return where a C file can go.

    Raises:
        ValueError: Its stem is no name in C, or its folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".c" or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", path.stem):
        raise ValueError(f"path must end in a name that C takes, such as net.c, not {path.name!r}")
    if not path.parent.is_dir() or path.is_dir() or path.with_suffix(".h").is_dir():
        raise ValueError(f"path must be a file in a folder that exists, not {path}")
    return path


def _one_sample(model: nn.Module, x: Tensor) -> Tensor:
    """Return the first sample of an input as a batch of one; the whole input where no dimension is the batch."""
    try:
        axis = find_batch(model, (x,)).axes[0]
    except ValueError:
        return x
    return x if axis is None else x.narrow(axis, 0, 1).contiguous()


def _round_weights(model: nn.Module) -> nn.Module:
    """Round the weights of layers that become matrices, in place."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.RNNBase):
            for weight in layer.parameters():
                if weight.dim() > 1:
                    weight.copy_(round_rows(weight))
    return model


def _noise(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def _source(name: str, original: nn.Module, plain: nn.Module, x: Tensor, constants: Constants) -> Source:
    program = _trace(plain, x)
    want = original(x)
    traced = program.module()
    for where, given in (("on the example", x), ("on random numbers", _noise(x))):
        if problem := describe_difference([original(given)], [traced(given)], _TOLERANCE, where):
            raise ValueError(f"model cannot be written as C: when traced, {problem}")
    reason, steps = "", None
    if recurrent_layers(plain):
        try:
            small = streaming(plain, x)
            steps = small.axis, _trace(plain, x.narrow(small.axis, 0, 1).contiguous())
        except (NoStreaming, ValueError) as error:
            reason = str(error)
    try:
        return _lower(name, original, program, x, want, steps, reason, constants)
    except _NoStep as error:
        return _lower(name, original, program, x, want, None, str(error), Constants(constants.int8))


class _NoStep(Exception):
    """Raised where a window can be written, but not a step."""


def _lower(
    name: str,
    original: nn.Module,
    program: torch.export.ExportedProgram,
    x: Tensor,
    want: Tensor,
    steps: tuple[int, torch.export.ExportedProgram] | None,
    reason: str,
    constants: Constants,
) -> Source:
    layers = Layers(constants)
    forward = Lowering(program, constants, layers, stateful=False)
    if problem := describe_difference([want], [forward.run(x)], _TOLERANCE, "on the example"):
        raise ValueError(f"model cannot be written as C: as C, {problem}")
    step = None
    if steps is not None:
        axis, one = steps
        lowering = Lowering(one, constants, layers, stateful=True)
        rows = list(x.unbind(axis))
        try:
            output = lowering.run(x.narrow(axis, 0, 1))
        except ValueError as error:
            raise _NoStep(str(error)) from error
        small, state, outputs = streaming(original, x), None, list[Tensor]()
        for row in rows:
            result, state = small.step(row, state)
            outputs.append(result)
        starts = {
            state: constants.vector(f"{state}_start", value) if bool(value.any()) else ""
            for state, value in lowering.states.items()
        }
        step = Step(
            lowering.function,
            {state: value.numel() for state, value in lowering.states.items()},
            starts,
            rows[0].shape,
            output.shape,
            torch.stack(rows),
            torch.stack(outputs),
        )
    scratch = max(f.place()[1] for f in ([forward.function, step.function] if step else [forward.function]))
    kind, made = type(original).__name__, _version()
    return Source(name, kind, made, constants, layers.sources, forward.function, step, reason, x, want, scratch)


def _trace(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    with quietly():
        try:
            return torch.export.export(model, (x,), strict=False)
        except Exception as error:  # it raises many kinds on models that it does not understand
            raise ValueError(f"model cannot be written as C: torch.export fails with: {first_line(error)}") from error


def _write(texts: dict[Path, str]) -> None:
    """Write all files, or none."""
    unfinished = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    try:
        for path, text in texts.items():
            unfinished[path].write_text(text, "utf-8")
        for path in texts:
            unfinished[path].replace(path)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def _version() -> str:
    try:
        return version("synaptic-pruning")
    except PackageNotFoundError:
        return "from source"
