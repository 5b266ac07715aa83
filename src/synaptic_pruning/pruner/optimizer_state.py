"""What optimizers do that a hook on their steps has to know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import Layer


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer whose steps are real, out of the wrappers of Accelerate and Lightning."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def remembered(state: Mapping[str, Any]) -> Iterator[tuple[Tensor, int]]:
    """Yield each tensor that an optimizer remembers of one parameter, and what stands for zero in it.

    That is 0 but where it holds the codes of 8-bit numbers, as those of bitsandbytes and torchao do: theirs are places
    in a table of values, and place 0 may be the largest negative one.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            continue
        codes = getattr(value, "codes", value)  # torchao keeps them with their table in one object
        table = getattr(value, "qmap", state.get(f"qmap{key[-1]}"))  # bitsandbytes: state1 with qmap1
        if codes.dtype is torch.uint8 and isinstance(table, Tensor):
            yield codes, int(table.abs().argmin())
        else:
            yield codes, 0


@torch.no_grad()
def clean(layers: Sequence[Layer], optimizer: torch.optim.Optimizer) -> None:
    """Zero what the optimizer remembers of dead weights: every state tensor that has its parameter's shape."""
    for layer in layers:
        for value, zero in remembered(optimizer.state.get(layer.parameter, {})):
            if value.shape == layer.parameter.shape:
                layer.silence(value, zero)


def skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether a fused optimizer skipped its step: GradScaler calls it all the same and says so beside it."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.any())


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile from tracing into a hook, which branches on data, at no cost where nothing is compiled."""
    disabled = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]

    def call(*args: Any) -> Any:
        return disabled(*args) if torch.compiler.is_compiling() else hook(*args)

    return call
