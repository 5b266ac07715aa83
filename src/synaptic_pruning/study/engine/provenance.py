"""Say what a result comes from and cost: content hash, versions, saved network, memory."""

import ast
import hashlib
import json
import platform
import re
import resource
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import synaptic_pruning as sp
from synaptic_pruning.study.engine.atomic_write import write_atomically
from synaptic_pruning.study.engine.records import Job

if TYPE_CHECKING:
    from torch import nn


PRUNING_CODE = ("core", "rules", "pruner", "dropout.py", "tasks/training.py")
"""What trainings of every task come from, as places for `code_digest`."""


def content_hash(content: Mapping[str, Any]) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of plain values, whatever their order.

    Example:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def stable_repr(value: object) -> str:
    """Return the `repr` of a value without the addresses of functions, which differ from process to process.

    Example:
        >>> stable_repr([len, stable_repr])
        '[<built-in function len>, <function stable_repr>]'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, this library and PyTorch."""
    return {
        "python": platform.python_version(),
        "synaptic_pruning": sp.__version__,
        "torch": version("torch"),
    }


def hashed_versions() -> dict[str, str]:
    """Return those of `versions` that the hash of a cell covers."""
    return {name: versions()[name] for name in ("synaptic_pruning", "torch")}


@cache
def code_digest(*places: str) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of this library's code at some places.

    Comments, docstrings and the layout of the text do not count.

    Args:
        places: Files and folders below the package.

    Example:
        >>> code_digest("rules") == code_digest("rules/base.py")
        False
    """
    root = Path(sp.__file__).parent
    found = hashlib.sha256()
    for place in places:
        for file in sorted((root / place).rglob("*.py")) if (root / place).is_dir() else [root / place]:
            found.update(f"{file.relative_to(root).as_posix()} {bare_code(file.read_text('utf-8'))}".encode())
    return found.hexdigest()[:16]


def bare_code(source: str) -> str:
    """Return what code says, without comments, docstrings and layout.

    Example:
        >>> bare_code("x = 1  # one") == bare_code("x  =  1")
        True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def save_network(model: "nn.Module", cell: Job, folder: Path) -> None:
    """Write the weights to `<hash>.safetensors`, with the settings of the cell, whole or not at all."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / f"{cell.hash}.safetensors", save(state, {"cell": json.dumps(cell.to_dict())}))


def peak_memory_mb() -> float:
    """Return the largest memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
