"""Time pruned networks and measure their files, interleaved with every dense form in one run.

    python benchmarks/export.py                     # the figures of docs/results/export.md, about ten minutes
    python benchmarks/export.py --full              # every size, sparsity and batch
    python benchmarks/export.py --trained           # networks trained and pruned by a ramp to 80 %, real series

Candidates take turns (A, B, C, A, B, C, ...); printed is the median of each in milliseconds and, as the ratio
that counts, the fastest dense PyTorch form (eager or compiled) over `compact`. "csr" is every weight matrix
as a PyTorch CSR tensor, `W @ x.T`, for Linear only. At batch 1, where gcc is installed, "c" is the file of `to_c`
(-O2 -march=native); of recurrent networks "c step" and "step" are one row of it and of `streaming`. "mkl" is a Linear
layer as MKL's CSR matrix, where the packages mkl and sparse-dot-mkl are installed. "3 of 32" has three weights in each
block of 32 inputs, as `ToSparsity(..., pattern=(3, 32))` leaves them.
"""

import argparse
import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime
import torch
from interleaved import RAMP
from packaging.requirements import Requirement
from safetensors.torch import save_file
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from synaptic_pruning import SynapticPruner, export
from synaptic_pruning.export.timing import time_interleaved
from synaptic_pruning.tasks.forecasting import predict, train
from synaptic_pruning.tasks.forecasting.data.builtin import embedded
from synaptic_pruning.tasks.forecasting.metrics import score
from synaptic_pruning.tasks.forecasting.models import build_model
from synaptic_pruning.tasks.forecasting.windows import make_task

WINDOW = 30


class Recurrent(nn.Module):
    """LSTM layers and a Linear head on the last step."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(8, hidden, layers, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


class PatchTST(nn.Module):
    """Patches of 16 every 8 steps of a window of 336, three encoder layers, 96 steps ahead."""

    def __init__(self, width: int = 128, heads: int = 16) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, 256, activation="gelu", batch_first=True)
        self.embed, self.position = nn.Linear(16, width), nn.Parameter(torch.randn(42, width) / 50)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(42 * width, 96)

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.pad(x, (0, 8), mode="replicate").unfold(1, 16, 8)
        return self.head(self.encoder(self.embed(patches) + self.position).flatten(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear 1024": (lambda: nn.Linear(1024, 1024), (1024,)),
    "MLP 1024": (mlp, (1024,)),
    **{
        f"LSTM {hidden} x{layers}": ((lambda h=hidden, n=layers: Recurrent(h, n)), (WINDOW, 8))
        for hidden, layers in itertools.product((64, 256, 512), (1, 2))
    },
    "PatchTST 128": (PatchTST, (336,)),
    "PatchTST 64": (lambda: PatchTST(64, 4), (336,)),
}
SHORT = ("Linear 1024", "MLP 1024", "LSTM 64 x2", "LSTM 256 x2", "LSTM 512 x2", "PatchTST 128", "PatchTST 64")


BLOCK, LEFT = 32, 3


def prune(model: nn.Module, sparsity: float | None) -> nn.Module:
    """Zero weights at random, each alone or all but `LEFT` of every `BLOCK` inputs of a row (None)."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "position" not in name:
                chances = torch.rand_like(weight)
                if sparsity is None and weight.shape[-1] % BLOCK == 0:
                    blocks = chances.unflatten(-1, (-1, BLOCK))
                    weight *= (blocks >= blocks.topk(LEFT).values[..., -1:]).flatten(-2)
                else:
                    weight *= chances >= (0.9 if sparsity is None else sparsity)
    return model.eval().requires_grad_(False)


class Csr(nn.Module):
    """A Linear layer as PyTorch's own sparse product."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight.detach().to_sparse_csr(), layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x.T).T + self.bias


def csr(model: nn.Module) -> nn.Module | None:
    if isinstance(model, nn.Linear):
        return Csr(model)
    if isinstance(model, nn.Sequential):
        return nn.Sequential(*(Csr(layer) if isinstance(layer, nn.Linear) else layer for layer in model))
    return None


def c_code(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """The network as C, one thread; what PyTorch alone can express, such as unfolding, is left out."""
    if len(x) > 1 or shutil.which("gcc") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export.to_c(model, x, f"{folder}/net.c")
        except ValueError:
            return {}
        flags = ["-std=c99", "-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, report.path, "-lm", "-o", f"{folder}/net.so"], check=True)
        library = ctypes.CDLL(f"{folder}/net.so")
    y, state = torch.empty(model(x).shape), torch.zeros(report.state)
    at = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, y, state)]
    forms = {"c": lambda _=(x, y): library.net_forward(*at[:2])}
    if report.steps:
        forms["c step"] = lambda _=state: library.net_step(*at)
    return forms


def mkl(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """A Linear layer as MKL's CSR matrix; nothing where MKL is not installed."""
    try:
        from sparse_dot_mkl import dot_product_mkl
    except (ImportError, AttributeError):
        return {}
    if not isinstance(model, nn.Linear):
        return {}
    weight, bias = csr_matrix(model.weight.numpy()), model.bias.numpy()[:, None]
    columns = x.T.contiguous().numpy()
    return {"mkl": lambda: dot_product_mkl(weight, columns) + bias}


def candidates(model: nn.Module, x: Tensor, threads: int, others: bool) -> dict[str, Callable[[], Any]]:
    compact = export.compact(model, x, threads=threads)
    forms: dict[str, Callable[[], Any]] = {"eager": lambda: model(x), "compact": lambda: compact(x)}
    forms |= c_code(model, x)
    if len(x) == 1 and isinstance(model, Recurrent):
        small, row = export.streaming(compact, x), x[:, 0]
        state = small.step(row)[1]
        forms["step"] = lambda: small.step(row, state)
    if not others:
        return forms
    try:
        torch._dynamo.reset()
        compiled = torch.compile(model)
        compiled(x)
        forms["compile"] = lambda: compiled(x)
    except Exception as error:
        print(f"  torch.compile failed: {str(error).partition(chr(10))[0]}")
    sparse = csr(model)
    if sparse is not None:
        forms["csr"] = lambda: sparse(x)
    forms |= mkl(model, x)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        example = torch.randn(2, *x.shape[1:])
        path = f"{folder}/dense.onnx"
        free = ({0: torch.export.Dim.AUTO},)
        torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=free, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(path, options)
    feed = {session.get_inputs()[0].name: x.numpy()}
    forms["onnxruntime"] = lambda: session.run(None, feed)
    return forms


def speed(name: str, sparsity: float | None, batch: int, threads: int, others: bool, seconds: float) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model, x = prune(build(), sparsity), torch.randn(batch, *shape)
    with torch.inference_mode():
        forms = candidates(model, x, threads, others)
        runs = [time_interleaved(forms, seconds=seconds / 5, min_rounds=3) for _ in range(5)]
    times = {form: min(run[form] for run in runs) for form in forms}
    dense = min(times[form] for form in ("eager", "compile") if form in times)
    line = "  ".join(f"{form} {seconds * 1e3:8.3f}" for form, seconds in times.items())
    ratio = dense / times["compact"]
    zeros = f"{LEFT} of {BLOCK}" if sparsity is None else f"{sparsity:7.0%}"
    print(f"{name:13} {zeros} batch {batch:3} threads {threads}  {ratio:6.2f}x  {line}", flush=True)


def size(name: str, sparsity: float) -> None:
    torch.manual_seed(0)
    model = prune(NETWORKS[name][0](), sparsity)
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.safetensors"
        save_file(model.state_dict(), dense)
        line = []
        for values in ("float32", "float16", "int8"):
            export.save(model, Path(folder) / values, values)
            line.append(f"{values} {dense.stat().st_size / (Path(folder) / values).stat().st_size:5.1f}x")
        print(f"{name:13} {sparsity:4.0%} file {dense.stat().st_size:9} bytes, smaller:  {'  '.join(line)}")


def installed(*names: str) -> int:
    """Bytes of these distributions and of all that they require."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = distribution(name)
            wanted = map(Requirement, found[name].requires or ())
            todo += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    files = [Path(str(file.locate())) for one in found.values() for file in one.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")


def deployment() -> None:
    """Print what must lie on a machine to run one network: interpreter and libraries included."""
    library = Path(sysconfig.get_path("stdlib"))
    parts = [file for file in library.rglob("*") if not {"site-packages", "__pycache__", "test"} & set(file.parts)]
    python = sum(file.stat().st_size for file in parts if file.is_file()) + Path(sys.executable).stat().st_size
    rows = {
        "Python, PyTorch": python + installed("torch"),
        "Python, PyTorch, compact's kernels": python + installed("torch", "numba"),
        "Python, ONNX Runtime": python + installed("onnxruntime"),
    }
    torch.manual_seed(0)
    build, shape = NETWORKS["LSTM 256 x2"]
    with tempfile.TemporaryDirectory() as folder:
        export.to_c(prune(build(), 0.9), torch.randn(1, *shape), f"{folder}/net.c")
        flags = ["-std=c99", "-Os", "-s", "-DNET_SELF_TEST"]
        subprocess.run(["gcc", *flags, f"{folder}/net.c", "-lm", "-o", f"{folder}/net"], check=True)
        rows["C, LSTM 256 x2 at 90% included"] = Path(folder, "net").stat().st_size
    for name, size in rows.items():
        print(f"{name:35} {size / 1e6:8.1f} MB", flush=True)


def trained() -> None:
    """LSTM and PatchTST forecasters, pruned while training, on three series: error, bytes, latency before and after."""
    for series in embedded():
        task = make_task(series, length=30)
        for name in ("lstm", "patchtst"):
            torch.manual_seed(0)
            model = build_model(name, channels=1, length=30, horizon=1, unit=task.unit)
            run = train(
                model, task, epochs=20, seed=0, attach=lambda m, o, n: SynapticPruner(m, o, RAMP, total_steps=n)
            )
            line = [f"{series.name:9} {name:8} {run.sparsity:4.0%}"]
            for batch in (1, 32):
                x = torch.randn(batch, 30, 1)
                small = export.compact(model, x, threads=1)
                with torch.inference_mode():
                    times = time_interleaved({"dense": lambda m=model, x=x: m(x), "compact": lambda m=small, x=x: m(x)})
                line.append(
                    f"batch {batch:2} {times['dense'] * 1e6:5.0f} -> {times['compact'] * 1e6:5.0f} us "
                    f"({times['dense'] / times['compact']:.2f}x, {small.report.form})"
                )
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                save_file(model.state_dict(), f"{folder}/dense")
                export.save(model, f"{folder}/packed")
                before, after = (Path(folder, file).stat().st_size for file in ("dense", "packed"))
                errors = [score(task, task.to_units(predict(m, task.test), task.test))["mae"] for m in (model, small)]
            line.append(f"{before} -> {after} bytes ({before / after:.1f}x)  MAE {errors[0]:.6g} -> {errors[1]:.6g}")
            print("  ".join(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every size, sparsity and batch")
    parser.add_argument("--trained", action="store_true", help="trained networks only")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2), help="how many threads")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long to measure each row")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.trained:
        torch.set_num_threads(1)
        return trained()
    if shutil.which("gcc") is not None:
        deployment()
    names = [n for n in (NETWORKS if options.full else SHORT) if options.only in n]
    sparsities = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98) if options.full else (0.7, 0.9)
    batches = (1, 32, 256) if options.full else (1, 32)
    for name in names:
        for sparsity in sparsities:
            size(name, sparsity)
    for threads, name, sparsity, batch in itertools.product(options.threads, names, sparsities, batches):
        speed(name, sparsity, batch, threads, others=options.full or sparsity == 0.9, seconds=options.seconds)
    for threads, name, batch in itertools.product(options.threads, names, batches):
        speed(name, None, batch, threads, others=False, seconds=options.seconds)


if __name__ == "__main__":
    main()
