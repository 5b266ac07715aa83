"""Commands `inspect` and `export`: show what packing saves, and write smaller files."""

import importlib
import sys
import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from synaptic_pruning.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

_WRITTEN = ([".packed"], [".dense"])  # suffixes of the files that this command writes beside those that it reads


class Precision(StrEnum):
    """How alive weights are stored."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Safetensors file or PyTorch state dict.")]
Source = Annotated[
    Path, typer.Argument(exists=True, metavar="FILE|RUN", help="Such a file, or the --out folder of a comparison.")
]


def inspect(file: File) -> None:
    """Show sparsity, pruned units and what packing would save, weight by weight."""
    from synaptic_pruning.export import inspect_file

    try:
        typer.echo(str(inspect_file(file)))
    except (ValueError, OSError, MemoryError) as error:
        options.refuse(str(error) or f"{file}: {type(error).__name__}")


def export(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="File, or folder for a RUN; by default beside each.")] = None,
    values: Annotated[Precision, typer.Option(help="Precision of alive weights.")] = Precision.float32,
    dense: Annotated[bool, typer.Option("--dense", help="Write a plain dense safetensors file instead.")] = False,
    model: Annotated[
        str, typer.Option(help="module:function that returns the plain model; needed for --input, --onnx, --c.")
    ] = "",
    input: Annotated[
        str, typer.Option(help="Shape of an example input, such as 32,30,8: time dense against compact.")
    ] = "",
    onnx: Annotated[Path | None, typer.Option(help="ONNX file of the shrunk network to write as well.")] = None,
    input_names: Annotated[str, typer.Option(help="Names of the ONNX file's inputs, such as window.")] = "",
    output_names: Annotated[str, typer.Option(help="Names of its outputs, such as forecast.")] = "",
    c: Annotated[
        Path | None, typer.Option("--c", help="C file of the network to write as well, such as net.c.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads to time with.")] = 1,
) -> None:
    """Write FILE, or every network of a RUN, with its zeros packed away; time it, write ONNX and C, given a model."""
    if (input or onnx or c) and not (model and input):
        options.refuse("--input, --onnx and --c need both --model and --input.")
    if (input_names or output_names) and not onnx:
        options.refuse("--input-names and --output-names are those of an ONNX file; give --onnx.")
    if input and source.is_dir():
        options.refuse("--input times one network; give its FILE, not a folder.")
    if dense and values != Precision.float32:
        options.refuse(f"--values {values} is for packed files; leave out --dense.")
    shape = _shape(input) if input else None
    targets = _targets(source, out, "dense.safetensors" if dense else "packed.safetensors")
    for file, target in targets.items():
        if target.exists() and target.samefile(file):
            options.refuse(f"--out {target} is FILE itself; choose another name.")
        if target.is_dir() or not target.parent.is_dir():
            options.refuse(f"--out {target} is no file in a folder that exists; choose another name.")
    network = None if shape is None else _build(model)

    if c is not None:
        _check_c(c)

    def write_others(network: "nn.Module", example: "Tensor") -> list[str]:
        from synaptic_pruning.export import to_c, to_onnx

        kept: Literal["float32", "int8"] = "int8" if values is Precision.int8 else "float32"
        lines = []
        with tempfile.TemporaryDirectory(dir=c.parent if c else None, prefix=".export-") as folder:
            written = None if c is None else to_c(network, example, Path(folder, c.name), values=kept)
            if onnx is not None:
                names = [options.split(names) or None for names in (input_names, output_names)]
                to_onnx(network, example, onnx, input_names=names[0], output_names=names[1])
                lines.append(f"{onnx}: {onnx.stat().st_size} bytes, checked in ONNX Runtime")
            if c is not None and written is not None:
                written.header.replace(c.with_suffix(".h"))
                written.path.replace(c)
                lines.append(str(replace(written, path=c, header=c.with_suffix(".h"))))
        return lines

    for file, target in targets.items():
        try:
            lines = _export(file, target, values, dense, network, shape, threads, write_others)
        except (ValueError, RuntimeError, ImportError, OSError, MemoryError) as error:
            options.refuse(str(error) or f"{file}: {type(error).__name__}")
        typer.echo("\n".join(lines))


def _export(
    file: Path,
    target: Path,
    values: Precision,
    dense: bool,
    network: "nn.Module | None",
    shape: list[int] | None,
    threads: int,
    write_others: "Callable[[nn.Module, Tensor], list[str]]",
) -> list[str]:
    """Write one file, and ONNX and C of it; it comes to its place only when all has gone well. Return what to say."""
    import torch

    from synaptic_pruning.export import compact, load
    from synaptic_pruning.export.packed import read_state, save_state

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        finished = Path(folder, target.name)
        save_state(read_state(file), finished, values.value, dense)
        before, after = file.stat().st_size, finished.stat().st_size
        lines = [f"{target}: {after} bytes, {before / after:.1f}x smaller than {file.name}"]
        if network is not None and shape is not None:
            load(network, finished)
            example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            lines.append(str(compact(network, example, threads=threads).report))
            lines += write_others(network, example)
        finished.replace(target)
    return lines


def _targets(source: Path, out: Path | None, suffix: str) -> dict[Path, Path]:
    """Return what to write for each file of a source."""
    if source.is_file():
        return {source: out or source.with_name(f"{source.stem}.{suffix}")}
    files = sorted(f for f in (source / "networks").glob("*.safetensors") if f.suffixes[:-1] not in _WRITTEN)
    if not files:
        options.refuse(f"{source} holds no networks/*.safetensors; give a file, or the folder of a comparison.")
    if out is not None:
        options.prepare(out)
    return {file: (out or file.parent) / f"{file.stem}.{suffix}" for file in files}


def _check_c(path: Path) -> None:
    from synaptic_pruning.export.deploy import check_c_path

    try:
        check_c_path(path)
    except ValueError as error:
        options.refuse(f"--c: {error}.")


def _shape(text: str) -> list[int]:
    try:
        shape = [int(size) for size in text.split(",")]
    except ValueError:
        shape = [0]
    if min(shape) < 1:
        options.refuse(f"--input must be whole numbers above 0, as in 32,30,8, not {text!r}.")
    return shape


def _build(name: str) -> "nn.Module":
    from torch import nn

    module, _, function = name.partition(":")
    sys.path.insert(0, "")  # as `python -m` does, so that a module in the current folder is found
    try:
        network = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        options.refuse(f"--model must be module:function, found through the Python path: {error}.")
    finally:
        sys.path.remove("")
    if not isinstance(network, nn.Module):
        options.refuse(f"--model {name} must return a torch.nn.Module, not {type(network).__name__}.")
    return network
