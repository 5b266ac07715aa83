"""What a file of weights holds: sparsity and dead units of every layer, and what packing it would save."""

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synaptic_pruning.export.packed.header import FileError
from synaptic_pruning.export.packed.packed_file import packed_bytes, read

_RECURRENT = re.compile(r"(.*\.|^)weight_(ih|hh)_l\d+(_reverse)?$")


@dataclass
class FileRow:
    """A weight matrix or kernel; dead rows are outputs that read nothing, dead columns unread inputs."""

    name: str
    shape: tuple[int, ...]
    alive: int
    weights: int
    dead_rows: int
    dead_columns: int

    @property
    def sparsity(self) -> float:
        """Part of the weights that is zero."""
        return 1 - self.alive / self.weights if self.weights else 0.0


@dataclass
class FileReport:
    """Every weight of a file; bytes of the file, of its tensors dense, and of what `save` would write."""

    rows: list[FileRow]
    file_bytes: int
    dense_bytes: int
    packed_bytes: int

    def __str__(self) -> str:
        width = max([6, *(len(row.name) for row in self.rows)])
        shapes = {row.name: "x".join(map(str, row.shape)) for row in self.rows}
        wide = max([5, *(len(shape) for shape in shapes.values())])
        lines = [f"{'weight':{width}}  {'shape':>{wide}}  sparsity  dead outputs  dead inputs"]
        lines += [
            f"{r.name:{width}}  {shapes[r.name]:>{wide}}  {r.sparsity:7.1%}  {r.dead_rows:12}  {r.dead_columns:11}"
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
    """Sparsity and dead units of every weight in a safetensors file or a PyTorch state dict.

    Speed depends on the model's code and the machine, so it is not guessed here: `compact` measures it.

    Args:
        path: a file by `save`, any other safetensors file, or what `torch.save(model.state_dict())` wrote,
            which is read with `weights_only=True`, so that nothing in it is executed.

    Raises:
        FileError: the file is neither.
        FileNotFoundError: there is no such file.
    """
    state = read_state(path)
    rows = []
    for name, tensor in state.items():
        if tensor.dim() < 2 or not tensor.is_floating_point():
            continue
        alive = (tensor != 0).flatten(2).any(2) if tensor.dim() > 2 else tensor != 0
        rows_alive = alive.any(1)
        if _RECURRENT.match(name):  # a unit is dead only if all its gates are
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


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file or a PyTorch state dict; nothing in the file is executed.

    Raises:
        FileError: the file is neither.
    """
    if not zipfile.is_zipfile(path):
        return read(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets through whatever its unpickler and zip reader raise
        raise FileError(f"{path} is not a PyTorch state dict: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FileError(f"{path} must hold a state dict, tensors by name; save model.state_dict()")
    return state


def _gates(state: dict[str, Tensor], name: str) -> int:
    """4 for an LSTM, 3 for a GRU, 1 for an RNN, told from the shape of the recurrent weight."""
    recurrent = state.get(name.replace("weight_ih", "weight_hh"))
    if recurrent is None:
        return 1
    projection = state.get(name.replace("weight_ih", "weight_hr").replace("weight_hh", "weight_hr"))
    hidden = recurrent.shape[1] if projection is None else projection.shape[1]
    return max(1, recurrent.shape[0] // hidden) if recurrent.shape[0] % hidden == 0 else 1
