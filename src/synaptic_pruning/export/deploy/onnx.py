"""Write the shrunk network as ONNX with a free batch and check it in ONNX Runtime at several batch sizes."""

import inspect
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from synaptic_pruning.export.batch import Batch, difference, find_batch, outputs_of, tensors_in, tolerance
from synaptic_pruning.export.shrinking import Inputs, as_arguments, shrink


def to_onnx(
    model: nn.Module,
    example_input: Inputs,
    path: str | os.PathLike[str],
    atol: float = 1e-4,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Path:
    """Shrink a model, write it as ONNX, run the file in ONNX Runtime and compare the outputs.

    Weights stay dense, zeros included, since ONNX Runtime has no sparse kernels. The batch is free; every other
    size is that of the example. The batch is the first dimension of the inputs, or the second where samples lie
    there, as in an RNN without ``batch_first``. Inputs that all samples share, such as a mask over the steps,
    keep their size. The file is run with one sample, the example and another batch size. It is replaced only
    when complete and checked.

    Args:
        model: Any module that PyTorch's exporter understands. It is not changed.
        example_input: A tensor, or a tuple of the positional arguments of ``model``. What is no tensor becomes a
            constant of the file.
        path: The file to write.
        atol: Largest difference allowed, 0 or more; relative to the largest output where that exceeds 1.
        input_names: Names of the tensors in ``example_input``. None means the names in ``forward``.
        output_names: Names of the outputs. None means "output", or "output_0", "output_1", … if there are several.

    Returns:
        ``path`` as a ``Path``.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing; the extra ``export`` brings them.
        ValueError: The model does not run on ``example_input``, takes or has baked in one batch size only, or
            names do not fit; nothing is written.
        RuntimeError: PyTorch's exporter fails, or outputs of ONNX Runtime and PyTorch differ by more than
            ``atol``; nothing is written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_onnx(nn.Linear(4, 2), torch.zeros(1, 4), f"{folder}/net.onnx").name
        'net.onnx'
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch.onnx needs it and says so less clearly)
    except ImportError as error:
        raise ImportError(
            f"{error.name} is needed to write ONNX; install the extra: synaptic-pruning[export]"
        ) from error
    path = Path(path)
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"path must be a file in a folder that exists, not {path}")
    inputs = pytree.tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, as_arguments(example_input))
    for x in tensors_in(inputs):
        if x.is_complex() or x.dtype == torch.bfloat16:
            raise ValueError(f"example_input must be of a type that NumPy and ONNX share, not {x.dtype}")
    names = _names("input_names", input_names, _forward_names(model, inputs))
    small = shrink(model, inputs).cpu()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        batch = find_batch(small, inputs)
        count = len(outputs_of(small, inputs))
        default = ["output"] if count == 1 else [f"output_{number}" for number in range(count)]
        results = _names("output_names", output_names, default)
        if both := sorted({*names} & {*results}):
            raise ValueError(f"output_names must differ from the names of the inputs; both have {both[0]!r}")
        try:
            _write(small, batch, unfinished, names, results)
            _check(small, batch, unfinished, atol, names)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _names(argument: str, given: Sequence[str] | None, default: list[str]) -> list[str]:
    if given is None:
        return default
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != len(default) or len(set(names)) < len(names) or not all(names):
        raise ValueError(f"{argument} must be {len(default)} different names, not {names!r}")
    return names


def _forward_names(model: nn.Module, inputs: tuple[Any, ...]) -> list[str]:
    """Return a name for each tensor: that of its argument, with a number if the argument holds several."""
    bound = inspect.signature(model.forward).bind_partial(*inputs).arguments
    names = []
    for name, value in bound.items():
        tensors = tensors_in(value)
        plain = isinstance(value, Tensor)
        names += [name if plain else f"{name}_{number}" for number in range(len(tensors))]
    return names


def _write(model: nn.Module, batch: Batch, path: Path, names: list[str], results: list[str]) -> None:
    program = _trace(model, batch)
    with quietly():
        try:
            torch.onnx.export(
                program,
                (),
                path,
                input_names=names,
                output_names=results,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many kinds on models that it does not understand
            raise RuntimeError(f"model cannot be written as ONNX: {first_line(error)}") from error


def _trace(model: nn.Module, batch: Batch) -> torch.export.ExportedProgram:
    """Trace the model with a free batch, by running it or, where that bakes in the batch, by reading its code."""
    free, axes = torch.export.Dim("batch"), iter(batch.axes)

    def shape(x: Any) -> Any:
        axis = next(axes) if isinstance(x, Tensor) else None
        return None if axis is None else {axis: free}

    bound = inspect.signature(model.forward).bind_partial(*batch.inputs).arguments
    shapes, arguments = pytree.tree_map(shape, bound), batch.arguments(batch.other)
    failures = []
    for strict in (False, True):
        with quietly():
            try:
                return torch.export.export(model, arguments, dynamic_shapes=shapes, strict=strict)
            except Exception as error:  # as above
                failures.append(error)
    if "Constraints violated" in str(failures[0]):
        raise ValueError(
            f"model has its batch size baked in: traced with a batch of {batch.other}, it takes that one only; "
            "use sizes such as x.shape[0] or -1 in its code, not numbers"
        )
    raise RuntimeError(f"model cannot be written as ONNX: {first_line(failures[0])}") from failures[0]


def _check(model: nn.Module, batch: Batch, path: Path, atol: float, names: list[str]) -> None:
    """Compare the file in ONNX Runtime with the model at several batch sizes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said here
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    written = [node.name for node in session.get_inputs()]
    if written != names:
        raise ValueError(f"input_names {names} clash with names inside the file, which has {written}; choose others")
    for samples in dict.fromkeys((batch.size, batch.other, 1)):
        arguments = batch.inputs if samples == batch.size else batch.arguments(samples)
        try:
            want = outputs_of(model, arguments)
        except Exception:  # one sample may be too few for a model; the other sizes are known to run
            continue
        tensors = tensors_in(arguments)
        try:
            feed = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
            got = [torch.from_numpy(x) for x in session.run(None, feed)]
        except Exception as error:
            raise RuntimeError(
                f"ONNX Runtime fails at batch {samples}, where PyTorch runs: {first_line(error)}; nothing was written"
            ) from error
        for node, a, b in zip(session.get_outputs(), want, got, strict=True):
            fits = len(node.shape) == a.dim() and all(
                declared == size or not isinstance(declared, int)
                for declared, size in zip(node.shape, a.shape, strict=True)
            )
            if a.shape != b.shape or not fits:
                raise RuntimeError(
                    f"ONNX Runtime's {node.name} has the shape {list(b.shape)} at batch {samples}, declared as "
                    f"{node.shape}, and PyTorch's {list(a.shape)}; nothing was written"
                )
            gap, limit = difference(a, b), tolerance(a, atol)
            if not gap <= limit:
                raise RuntimeError(
                    f"ONNX Runtime's {node.name} differs from PyTorch's by {gap:.1e} at batch {samples}, "
                    f"more than {limit:.1e}; nothing was written"
                )


def first_line(error: Exception) -> str:
    """Return what an error says first, without colours."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the exporter's warnings, log messages and prints about its own internals from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
