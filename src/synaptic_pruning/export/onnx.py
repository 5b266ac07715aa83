"""ONNX of the shrunk network, checked against PyTorch in ONNX Runtime."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from synaptic_pruning.export.shrinking.shrink import Inputs, as_arguments, check_runs, shrink


def to_onnx(model: nn.Module, example_input: Inputs, path: str | os.PathLike[str], atol: float = 1e-4) -> Path:
    """Shrink `model`, write it as ONNX, run the file in ONNX Runtime and compare.

    Surviving weights stay dense: ONNX Runtime has no sparse kernels. The first dimension of every input is
    written as free (the batch); the file is replaced only when complete and checked.

    Args:
        model: any module that PyTorch's exporter understands; it is not changed.
        example_input: a tensor, or a tuple of positional arguments.
        path: the file to write.
        atol: largest difference allowed, relative to the largest output where that exceeds 1.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing; the extra `export` brings them.
        ValueError: the model does not run on `example_input`.
        RuntimeError: ONNX Runtime's outputs differ from PyTorch's by more than `atol`; nothing is written.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch.onnx needs it and says so less clearly)
    except ImportError as error:
        raise ImportError(
            f"{error.name} is needed to write ONNX; install the extra: synaptic-pruning[export]"
        ) from error
    inputs = as_arguments(example_input)
    check_runs(model, inputs)
    small = shrink(model, inputs)
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _export(small, inputs, unfinished)
        session = onnxruntime.InferenceSession(unfinished, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        got = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
        with torch.no_grad():
            want = [x for x in pytree.tree_leaves(small(*inputs)) if isinstance(x, Tensor)]
        for a, b in zip(want, got, strict=True):
            limit = atol * max(1.0, float(a.abs().max()))
            difference = float(np.abs(a.numpy() - b).max())
            if not difference <= limit:
                raise RuntimeError(
                    f"ONNX Runtime's output differs from PyTorch's by {difference:.1e}, "
                    f"more than {limit:.1e}; nothing was written"
                )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _export(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    free = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    with warnings.catch_warnings():  # the exporter warns about its own internals
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, path, dynamo=True, dynamic_shapes=free, external_data=False, verbose=False)
