"""Hook optimizers: unwrap them, detect skipped steps, reset the state of pruned weights, keep out of torch.compile."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter
from synaptic_pruning.pruner.enforcement import MaskEnforcer


def unwrap_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer whose steps are real, inside the wrappers of Accelerate and Lightning."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def state_tensors(state: Mapping[str, Any]) -> Iterator[tuple[Tensor, int]]:
    """Yield each tensor that an optimizer keeps of one parameter, and what stands for zero in it.

    That is 0, except in the codes of 8-bit optimizers (bitsandbytes, torchao). Those are indices of a table of values,
    and index 0 may be the largest negative one.
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
def reset_pruned_state(
    optimizer: torch.optim.Optimizer, layers: Sequence[PrunableParameter], enforcer: MaskEnforcer
) -> None:
    """Zero what the optimizer keeps of pruned weights, in every state tensor that has its parameter's shape."""
    for layer in layers:
        for value, zero in state_tensors(optimizer.state.get(layer.parameter, {})):
            if value.shape == layer.parameter.shape:
                enforcer.zero_pruned_(layer, value, zero)


def skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a fused optimizer skipped its step: GradScaler calls it even then, and marks the optimizer."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.any())


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile from tracing into a hook, which branches on data, at no cost where nothing is compiled."""
    disabled = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]

    def call(*args: Any) -> Any:
        return disabled(*args) if torch.compiler.is_compiling() else hook(*args)

    return call
