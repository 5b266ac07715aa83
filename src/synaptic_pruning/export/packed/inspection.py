"""Report sparsity, pruned units and packed size of a file of weights."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from synaptic_pruning.export.packed.packed_file import packed_bytes
from synaptic_pruning.export.packed.state_file import read_state

_RECURRENT = re.compile(r"(.*\.|^)weight_(ih|hh)_l\d+(_reverse)?$")


@dataclass
class FileRow:
    """One weight matrix or kernel in a `FileReport`.

    Attributes:
        name: The weight's name.
        shape: Its shape.
        alive: Number of its entries that are not zero.
        weights: Number of its entries.
        pruned_rows: Number of outputs whose weights are all zero; of recurrent weights, units with all gates zero.
        pruned_columns: Number of inputs whose weights are all zero.
    """

    name: str
    shape: tuple[int, ...]
    alive: int
    weights: int
    pruned_rows: int
    pruned_columns: int

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that is zero, in [0, 1]."""
        return 1 - self.alive / self.weights if self.weights else 0.0


@dataclass
class FileReport:
    """The result of `inspect_file`; print it for a table.

    Attributes:
        rows: One row for each floating-point weight of two or more dimensions.
        file_bytes: Size of the file.
        dense_bytes: Size of all its tensors, dense.
        packed_bytes: Size of all its tensors as `save` writes them, without header.
    """

    rows: list[FileRow]
    file_bytes: int
    dense_bytes: int
    packed_bytes: int

    def __str__(self) -> str:
        width = max([6, *(len(row.name) for row in self.rows)])
        shapes = {row.name: "x".join(map(str, row.shape)) for row in self.rows}
        wide = max([5, *(len(shape) for shape in shapes.values())])
        lines = [f"{'weight':{width}}  {'shape':>{wide}}  sparsity  pruned outputs  pruned inputs"]
        lines += [
            f"{r.name:{width}}  {shapes[r.name]:>{wide}}  {r.sparsity:7.1%}  {r.pruned_rows:14}  {r.pruned_columns:13}"
            for r in self.rows
        ]
        weights = sum(r.weights for r in self.rows)
        zero = 1 - sum(r.alive for r in self.rows) / weights if weights else 0.0
        lines.append(
            f"{weights} weights, {zero:.1%} zero; "
            f"dense {self.dense_bytes} bytes, packed {self.packed_bytes} bytes "
            f"({self.dense_bytes / max(self.packed_bytes, 1):.1f}x smaller), "
            f"this file {self.file_bytes} bytes"
        )
        return "\n".join(lines)


def inspect_file(path: str | os.PathLike[str]) -> FileReport:
    """Report sparsity and pruned units of every weight in a safetensors file or a PyTorch state dict.

    A weight counts as pruned if it is 0. Nothing in the file is executed. Speed depends on the model's code and
    the machine; `compact` measures it.

    Args:
        path: A file that `save` or ``torch.save(model.state_dict(), path)`` wrote, or any safetensors file.

    Returns:
        A printable report.

    Raises:
        FileError: The file is neither.
        FileNotFoundError: There is no such file.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}, f"{folder}/net.pt")
        ...     row = inspect_file(f"{folder}/net.pt").rows[0]
        >>> row.sparsity, row.pruned_rows, row.pruned_columns
        (0.75, 1, 1)
    """
    state = read_state(path)
    rows = []
    for name, tensor in state.items():
        if tensor.dim() < 2 or not tensor.is_floating_point():
            continue
        alive = (tensor != 0).flatten(2).any(2) if tensor.dim() > 2 else tensor != 0
        rows_alive = alive.any(1)
        if _RECURRENT.match(name):  # a unit is pruned only if all its gates are
            rows_alive = rows_alive.view(_gates(state, name), -1).any(0)
        rows.append(
            FileRow(
                name,
                tuple(tensor.shape),
                int(tensor.count_nonzero()),
                tensor.numel(),
                int((~rows_alive).sum()),
                int((~alive.any(0)).sum()),
            )
        )
    return FileReport(
        rows,
        Path(path).stat().st_size,
        sum(t.numel() * t.element_size() for t in state.values()),
        sum(packed_bytes(t) for t in state.values()),
    )


def _gates(state: dict[str, Tensor], name: str) -> int:
    """Return the number of gates by the shape of the recurrent weight: LSTM 4, GRU 3, RNN 1."""
    recurrent = state.get(name.replace("weight_ih", "weight_hh"))
    if recurrent is None:
        return 1
    projection = state.get(name.replace("weight_ih", "weight_hr").replace("weight_hh", "weight_hr"))
    hidden = recurrent.shape[1] if projection is None else projection.shape[1]
    return max(1, recurrent.shape[0] // hidden) if recurrent.shape[0] % hidden == 0 else 1
