"""A matrix of surviving weights that multiplies samples, with the fastest kernel this machine has."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from synaptic_pruning.export.kernels.layouts import Slices, Tiles

FEW_SAMPLES = 16  # below this many samples the lookup kernel wins, from there on the tile kernel (benchmarks/export.py)


@cache
def compiled() -> bool:
    """Whether the Numba kernels can be used; without them products go through PyTorch's CSR tensors."""
    return find_spec("numba") is not None


class SparseMatrix(nn.Module):
    """The non-zero weights of a `(outputs, inputs)` float32 matrix, as compressed sparse rows in buffers.

    `matrix.product(x)` is `x @ W.T + bias` for `x` of shape (samples, inputs). The kernels' own layouts are
    made at the first product that needs them and are never saved, copied or pickled.

    Raises:
        ValueError: `weight` is not a float32 matrix on the CPU.

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
        self.register_buffer("bias", torch.zeros(self.outputs) if bias is None else bias.detach().clone())
        self._layouts: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_layouts": {}}

    def product(self, x: Tensor, threads: int = 1) -> Tensor:
        """`x @ W.T + bias` for contiguous float32 `x` (samples, inputs) without gradient."""
        if not compiled():
            csr: Tensor = self.cached("csr", self._to_csr)
            return ((csr @ x.T).T + self.bias).contiguous()
        samples = len(x)
        y = torch.empty(samples, self.outputs)
        if samples < FEW_SAMPLES:
            self.cached("few", self._few_samples)(x, y, samples)
        else:
            in_parts(self.cached("many", self._many_samples)(x, y), samples, threads)
        return y

    def _few_samples(self) -> Callable[[Tensor, Tensor, int], None]:
        # Everything that stays the same is bound once: for small layers the way to the kernel costs more than
        # it does.
        from synaptic_pruning.export.kernels.matmul import lookup_rows
        from synaptic_pruning.export.kernels.simd import BLOCK

        fixed = (*self.slices(), self.bias.numpy())
        outputs, missing = self.outputs, -self.inputs % BLOCK
        width = self.inputs + missing

        def product(x: Tensor, y: Tensor, samples: int) -> None:
            if missing:
                x = nn.functional.pad(x, (0, missing))
            lookup_rows(*fixed, x.numpy().ravel(), width, y.numpy().ravel(), outputs, 0, samples)

        return product

    def _many_samples(self) -> Callable[[Tensor, Tensor], Callable[[int, int], None]]:
        from synaptic_pruning.export.kernels.matmul import tile_rows

        fixed, inputs = (*self.tiles(), self.bias.numpy()), self.inputs

        def product(x: Tensor, y: Tensor) -> Callable[[int, int], None]:
            source, target = x.numpy().ravel(), y.numpy().ravel()
            return lambda first, last: tile_rows(*fixed, source, inputs, target, first, last)

        return product

    def slices(self) -> "Slices":
        """The layout of the lookup kernel."""
        from synaptic_pruning.export.kernels.layouts import to_slices

        return self.cached("slices", lambda: to_slices(*self._arrays(), self.inputs))  # type: ignore[no-any-return]

    def tiles(self) -> "Tiles":
        """The layout of the tile kernel."""
        from synaptic_pruning.export.kernels.layouts import to_tiles

        return self.cached("tiles", lambda: to_tiles(*self._arrays(), self.inputs))  # type: ignore[no-any-return]

    def dense(self) -> Tensor:
        """The matrix with its zeros."""
        weight = torch.zeros(self.outputs, self.inputs)
        rows = torch.repeat_interleave(torch.arange(self.outputs), self.starts.diff())
        weight[rows, self.columns.long()] = self.values
        return weight

    def extra_repr(self) -> str:
        """Shape and number of surviving weights, for `print(module)`."""
        return f"{self.outputs}x{self.inputs}, {self.values.numel()} weights"

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once and forgotten in copies, pickles and saved states."""
        if name not in self._layouts:
            self._layouts[name] = make()
        return self._layouts[name]

    def _arrays(self) -> tuple[Any, Any, Any]:
        return self.starts.numpy(), self.columns.to(torch.int32).numpy(), self.values.numpy()

    def _to_csr(self) -> Tensor:
        size, columns = (self.outputs, self.inputs), self.columns.to(torch.int32)
        with warnings.catch_warnings():  # "sparse CSR support is in beta", once a process
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(self.starts, columns, self.values, size, check_invariants=True)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="sparse-product")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads


def in_parts(work: Callable[[int, int], None], samples: int, threads: int) -> None:
    """Run `work(first, last)` over all samples, in at most `threads` parts of whole tiles at a time."""
    parts = min(threads, samples // FEW_SAMPLES)
    if parts <= 1:
        work(0, samples)
        return
    tiles = -(-samples // FEW_SAMPLES)
    cuts = [min(samples, tiles * part // parts * FEW_SAMPLES) for part in range(parts + 1)]
    rest = [_pool().submit(work, *cut) for cut in pairwise(cuts[1:])]
    work(0, cuts[1])
    for part in rest:
        part.result()
