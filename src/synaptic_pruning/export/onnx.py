"""Write the shrunk network as ONNX and check it in ONNX Runtime."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from synaptic_pruning.export.shrinking import Inputs, as_arguments, check_runs, shrink


def to_onnx(model: nn.Module, example_input: Inputs, path: str | os.PathLike[str], atol: float = 1e-4) -> Path:
    """Shrink a model, write it as ONNX, run the file in ONNX Runtime and compare the outputs.

    Weights stay dense, zeros included, since ONNX Runtime has no sparse kernels. The first dimension of every
    input (the batch) is free. The file is replaced only when complete and checked.

    Args:
        model: Any module that PyTorch's exporter understands. It is not changed.
        example_input: A tensor, or a tuple of the positional arguments of ``model``.
        path: The file to write.
        atol: Largest difference allowed, 0 or more; relative to the largest output where that exceeds 1.

    Returns:
        ``path`` as a ``Path``.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing; the extra ``export`` brings them.
        ValueError: The model does not run on ``example_input``.
        RuntimeError: Outputs of ONNX Runtime and PyTorch differ by more than ``atol``; nothing is written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     to_onnx(nn.Linear(4, 2), torch.zeros(1, 4), f"{folder}/net.onnx").name
        'net.onnx'
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
        _write(small, inputs, unfinished)
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


def _write(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    free_batch = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    with warnings.catch_warnings():  # the exporter warns about its own internals
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, inputs, path, dynamo=True, dynamic_shapes=free_batch, external_data=False, verbose=False
        )
