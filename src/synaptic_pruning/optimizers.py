"""What optimizers do that a hook on their steps has to know."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer whose steps are real, out of the wrappers of Accelerate and Lightning."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


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
