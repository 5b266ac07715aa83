"""Multiply samples by the non-zero weights of a matrix, with the kernel that suits their number."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from synaptic_pruning.export.kernels import Slices, Tiles

MIN_TILE_SAMPLES = 16  # the lookup kernel takes fewer samples, the tile kernel these and more (benchmarks/export.py)


@cache
def kernels_available() -> bool:
    """Return whether Numba is installed; without it products go through PyTorch's CSR tensors."""
    return find_spec("numba") is not None


class SparseMatrix(nn.Module):
    """The non-zero weights of a matrix, as compressed sparse rows in buffers.

    The kernels' own layouts are made at the first product that needs them. They are never saved, copied or
    pickled.

    Args:
        weight: The matrix (outputs, inputs), float32 on the CPU.
        bias: What is added to each output (outputs); None adds nothing.

    Raises:
        ValueError: ``weight`` is not a float32 matrix on the CPU.

    Example:
        >>> matrix = SparseMatrix(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([0.0, 0.5]))
        >>> matrix.product(torch.tensor([[3.0, 4.0]]))
        tensor([[8.0000, 3.5000]])
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        if weight.dim() != 2 or weight.dtype != torch.float32 or weight.device.type != "cpu":
            raise ValueError(
                f"weight must be a float32 matrix on the CPU, not {weight.dtype} of shape "
                f"{tuple(weight.shape)} on {weight.device}; convert it first"
            )
        self.outputs, self.inputs = weight.shape
        weight = weight.detach()
        rows, columns = weight.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=self.outputs).cumsum(0)
        index = torch.int16 if self.inputs <= torch.iinfo(torch.int16).max + 1 else torch.int32
        self.register_buffer("starts", torch.cat([counts.new_zeros(1), counts]).to(torch.int32))
        self.register_buffer("columns", columns.to(index))
        self.register_buffer("values", weight[rows, columns])
        self.register_buffer("bias", weight.new_zeros(self.outputs) if bias is None else bias.detach().clone())
        self._layouts: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_layouts": {}}

    def product(self, x: Tensor, threads: int = 1) -> Tensor:
        """Return ``x @ W.T + bias`` for contiguous float32 ``x`` (samples, inputs) without gradient.

        Args:
            x: The samples.
            threads: Number of threads that may share the samples, 1 or more.
        """
        if not kernels_available():
            csr: Tensor = self.cached("csr", self._to_csr)
            with torch.autocast("cpu", enabled=False):
                return ((csr @ x.T).T + self.bias).contiguous()
        samples = len(x)
        y = x.new_empty(samples, self.outputs)
        if samples < MIN_TILE_SAMPLES:
            self.cached("lookup", self._bind_lookup)(x, y, samples)
        else:
            split_over_threads(self.cached("tile", self._bind_tile)(x, y), samples, threads)
        return y

    def _bind_lookup(self) -> Callable[[Tensor, Tensor, int], None]:
        # What stays the same is bound once, since a small layer's call costs as much as its product: 5 to 10 µs
        # (docs/results/export.md).
        from synaptic_pruning.export.kernels import BLOCK, lookup_rows

        fixed = (*self.slices(), self.bias.numpy())
        outputs, missing = self.outputs, -self.inputs % BLOCK
        width = self.inputs + missing

        def product(x: Tensor, y: Tensor, samples: int) -> None:
            if missing:
                x = nn.functional.pad(x, (0, missing))
            lookup_rows(*fixed, x.numpy().ravel(), width, y.numpy().ravel(), outputs, 0, samples)

        return product

    def _bind_tile(self) -> Callable[[Tensor, Tensor], Callable[[int, int], None]]:
        from synaptic_pruning.export.kernels import tile_rows

        fixed, inputs = (*self.tiles(), self.bias.numpy()), self.inputs

        def product(x: Tensor, y: Tensor) -> Callable[[int, int], None]:
            source, target = x.numpy().ravel(), y.numpy().ravel()
            return lambda first, last: tile_rows(*fixed, source, inputs, target, first, last)

        return product

    def slices(self) -> "Slices":
        """Return the weights in the layout of the lookup kernel."""
        from synaptic_pruning.export.kernels import to_slices

        return self.cached("slices", lambda: to_slices(*self._arrays(), self.inputs))  # type: ignore[no-any-return]

    def tiles(self) -> "Tiles":
        """Return the weights in the layout of the tile kernel."""
        from synaptic_pruning.export.kernels import to_tiles

        return self.cached("tiles", lambda: to_tiles(*self._arrays(), self.inputs))  # type: ignore[no-any-return]

    def dense(self) -> Tensor:
        """Return the matrix (outputs, inputs) with its zeros."""
        weight = self.values.new_zeros(self.outputs, self.inputs)
        rows = torch.arange(self.outputs, device=self.values.device).repeat_interleave(self.starts.diff())
        weight[rows, self.columns.long()] = self.values
        return weight

    def extra_repr(self) -> str:
        """Return the shape and the number of non-zero weights, for ``print(module)``."""
        return f"{self.outputs}x{self.inputs}, {self.values.numel()} weights"

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returned when first called under this name; copies and pickles start anew."""
        if name not in self._layouts:
            self._layouts[name] = make()
        return self._layouts[name]

    def _arrays(self) -> tuple[Any, Any, Any]:
        return self.starts.numpy(), self.columns.to(torch.int32).numpy(), self.values.numpy()

    def _to_csr(self) -> Tensor:
        size, columns = (self.outputs, self.inputs), self.columns.to(torch.int32)
        with warnings.catch_warnings():  # "sparse CSR support is in beta", once a process
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                self.starts,
                columns,
                self.values,
                size,
                dtype=self.values.dtype,
                device=self.values.device,
                check_invariants=True,
            )


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="sparse-product")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads


def split_over_threads(work: Callable[[int, int], None], samples: int, threads: int) -> None:
    """Run ``work(first, last)`` over all samples, in at most ``threads`` parts of whole tiles at a time.

    The caller's autograd and inference modes hold in every thread. Autocast has no part in it: see `Inference`.

    Args:
        work: Function that handles the samples from ``first`` up to but without ``last``.
        samples: Number of samples.
        threads: Number of threads, 1 or more; fewer are used below 16 samples a thread.
    """
    parts = min(threads, samples // MIN_TILE_SAMPLES)
    if parts <= 1:
        work(0, samples)
        return
    tiles = -(-samples // MIN_TILE_SAMPLES)
    cuts = [min(samples, tiles * part // parts * MIN_TILE_SAMPLES) for part in range(parts + 1)]
    # PyTorch keeps these modes for each thread, and an inference tensor cannot be written outside of its mode.
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def in_modes_of_caller(first: int, last: int) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            work(first, last)

    rest = [_pool().submit(in_modes_of_caller, *cut) for cut in pairwise(cuts[1:])]
    try:
        work(0, cuts[1])
    finally:
        wait(rest)  # they write to memory of the caller, which it may free after an error
    for part in rest:
        part.result()
