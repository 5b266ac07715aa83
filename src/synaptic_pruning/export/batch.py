"""Find the batch dimension of example inputs, and make inputs of other batch sizes from them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_SIZES = (7, 5, 11, 13, 17, 19)  # whatever is baked in, an odd number of rows brings it to light
_MOST_TRIES = 60  # ways in which several inputs may share the batch


@dataclass(frozen=True)
class Batch:
    """Example inputs and the dimension of each that holds the samples.

    Attributes:
        inputs: The positional arguments of the model.
        axes: The batch dimension of every tensor inside ``inputs``; None for one that all samples share.
        size: Number of samples in ``inputs``.
        other: Another number of samples that the model takes, above 1 and unlike every size in ``inputs``.
    """

    inputs: tuple[Any, ...]
    axes: tuple[int | None, ...]
    size: int
    other: int

    def arguments(self, samples: int, vary: bool = True) -> tuple[Any, ...]:
        """Return inputs with another number of samples: those of the example over and over.

        Args:
            samples: Number of samples, 1 or more.
            vary: Scale the floating-point numbers of each sample by a factor from 0.5 to 1, and draw those of a
                tensor that holds a single number from [0, 1), so that samples differ.
        """
        axes = iter(self.axes)
        random = torch.Generator().manual_seed(0)

        def enlarge(x: Any) -> Any:
            if not isinstance(x, Tensor) or (axis := next(axes)) is None:
                return x
            rows = x.index_select(axis, torch.arange(samples, device=x.device) % self.size)
            if not vary or not x.is_floating_point():
                return rows
            if bool((x == x.flatten()[0]).all()) and bool(x.isfinite().all()):
                return torch.rand(rows.shape, generator=random, device="cpu").to(rows)
            factors = torch.linspace(1, 0.5, samples, device=x.device, dtype=torch.float32).to(x.dtype)
            return rows * factors.view(-1, *[1] * (x.dim() - axis - 1))

        return pytree.tree_map(enlarge, self.inputs)  # type: ignore[no-any-return]


def find_batch(model: nn.Module, inputs: tuple[Any, ...]) -> Batch:
    """Return which dimension of each input is the batch: the first or, where that is none, the second.

    A dimension is the batch if samples over and over give their outputs over and over. Where no output has a
    place for each sample, as in a mean, it is the first dimension that the model takes in another size.

    Raises:
        ValueError: The model takes no other number of samples.
    """
    tensors, want, reason, possible = tensors_in(inputs), outputs_of(model, inputs), "", None
    sizes = {n for x in tensors for n in x.shape}
    other = next(n for n in (*_SIZES, max(sizes, default=0) + 1) if n not in sizes)
    for axes, size in _assignments(tensors):
        if possible is None and 0 not in axes:
            break  # where the first dimension is fixed, the second is no batch but another free size
        batch = Batch(inputs, axes, size, other)
        try:
            got = outputs_of(model, batch.arguments(other, vary=False))
        except Exception as error:  # whatever the model's own code raises on a size that it cannot take
            reason = reason or f"a batch of {other} failed with: {str(error).partition(chr(10))[0]}"
            continue
        if _follow(want, got, size, other):
            return batch
        possible = possible or batch
    if possible is None:
        raise ValueError(
            "model must take other batch sizes than the example's, in the first dimension of its inputs; "
            + (reason or "they have none")
        )
    return possible


def check_inputs(model: nn.Module, inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield what to check another form of a model on, with a name: the example and, if it takes one, another batch."""
    yield "on the example input", inputs
    try:
        batch = find_batch(model, inputs)
    except ValueError:
        return
    yield f"at a batch of {batch.other}", batch.arguments(batch.other)


def outputs_of(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Return every tensor in the model's outputs."""
    return tensors_in(model(*inputs))


def tensors_in(values: Any) -> list[Tensor]:
    """Return every tensor inside nested tuples, lists and dicts, in the order of PyTorch's pytrees."""
    return [x for x in pytree.tree_leaves(values) if isinstance(x, Tensor)]


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two tensors of one shape: 0 for equal infinities and NaN, else inf for them."""
    a, b = a.detach().double(), b.detach().double()
    gaps = (a - b).abs()[(a != b) & ~(a.isnan() & b.isnan())]
    return float(gaps.nan_to_num(torch.inf, torch.inf).max()) if gaps.numel() else 0.0


def describe_difference(want: list[Tensor], got: list[Tensor], relative: float, where: str) -> str:
    """Return how outputs differ by more than `tolerance`, as a message; empty if they do not."""
    for a, b in zip(want, got, strict=True):
        if a.shape != b.shape:
            return f"outputs had the shape {list(b.shape)} in place of {list(a.shape)} {where}"
        if (gap := difference(a, b)) > tolerance(a, relative):
            return f"outputs differed by {gap:.1e} {where}"
    return ""


def tolerance(x: Tensor, relative: float) -> float:
    """Return the difference allowed from ``x``; relative to its largest finite number where that exceeds 1."""
    finite = x.detach().double()[x.isfinite()]
    return relative * max(1.0, float(finite.abs().max()) if finite.numel() else 0.0)


def _assignments(tensors: list[Tensor]) -> Iterator[tuple[tuple[int | None, ...], int]]:
    """Yield dimensions that may be the batch, with their size; first those where some tensor has it in front."""
    for front in (True, False):
        sizes = [x.shape[0 if front else 1] for x in tensors if x.dim() > (0 if front else 1)]
        for size in dict.fromkeys(n for n in sizes if n > 0):
            choices = [[axis for axis in _possible_axes(x, front) if x.shape[axis] == size] for x in tensors]
            ways = itertools.product(*([*choice, None] for choice in choices))
            for axes in itertools.islice(ways, _MOST_TRIES):
                if (0 if front else 1) in axes:
                    yield axes, size


def _possible_axes(x: Tensor, front: bool) -> list[int]:
    """Return the dimensions of a tensor that may be the batch; the second of a matrix of numbers is its features."""
    second = front or x.dim() > 2 or not x.is_floating_point()
    return [axis for axis in (0, 1) if axis < x.dim() and (front if axis == 0 else second)]


def _follow(want: list[Tensor], got: list[Tensor], size: int, other: int) -> bool:
    """Return whether outputs repeat as the samples do."""
    rows, moved = torch.arange(other) % size, False
    for a, b in zip(want, got, strict=False):
        changed = [axis for axis in range(a.dim()) if b.dim() == a.dim() and a.shape[axis] != b.shape[axis]]
        if not changed and a.shape == b.shape:
            continue
        if len(changed) != 1 or (a.shape[changed[0]], b.shape[changed[0]]) != (size, other):
            return False
        repeated = a.index_select(changed[0], rows.to(a.device))
        if difference(repeated, b) > tolerance(repeated, 1e-3):
            return False
        moved = True
    return moved
