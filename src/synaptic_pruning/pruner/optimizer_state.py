"""Reset what optimizers keep of pruned weights: weight by weight, or whole where that cannot be."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from synaptic_pruning.core import PrunableParameter
from synaptic_pruning.pruner.enforcement import MaskEnforcer

_SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")
"""Where PyTorch's optimizers keep mean squares of gradients, whose roots they divide by."""


def state_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor, int]]:
    """Yield the key of each tensor that an optimizer keeps of one parameter, the tensor, and what is zero in it.

    That is 0, except in the codes of 8-bit optimizers (bitsandbytes, torchao). Those are indices of a table of values,
    and index 0 may be the largest negative one.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            continue
        codes = getattr(value, "codes", value)  # torchao keeps them with their table in one object
        table = getattr(value, "qmap", state.get(f"qmap{key[-1]}"))  # bitsandbytes: state1 with qmap1
        if codes.dtype is torch.uint8 and isinstance(table, Tensor):
            yield key, codes, int(table.abs().argmin())
        else:
            yield key, codes, 0


@torch.no_grad()
def reset_pruned_state(
    optimizers: Sequence[Optimizer], layers: Sequence[PrunableParameter], enforcer: MaskEnforcer, *, grows: bool
) -> None:
    """Zero what optimizers keep of pruned weights, in every state tensor that has its parameter's shape.

    Second moments stay unless weights may grow again. They move nothing, since the first moments are zero, and a CPU
    takes four times as long for the roots of zeros: up to 2 % of a step with Adam.

    A memory of several parameters in one vector, as the directions of LBFGS are, is dropped whole. It holds what was
    learnt about a network that is no more, and the optimizer starts it anew.
    """
    for optimizer in optimizers:
        for layer in layers:
            for key, value, zero in state_tensors(optimizer.state.get(layer.parameter, {})):
                if value.shape == layer.parameter.shape and (grows or key not in _SECOND_MOMENTS):
                    enforcer.zero_pruned_(layer, value, zero)
        for group in optimizer.param_groups:
            size = sum(parameter.numel() for parameter in group["params"])
            for parameter in group["params"]:
                state = optimizer.state.get(parameter)
                if state and any(_is_joint(value, parameter, size) for value in state.values()):
                    state.clear()


def _is_joint(value: Any, parameter: Tensor, size: int) -> bool:
    """Return whether a value is a flat vector of all parameters of a group, or a list of such."""
    if isinstance(value, list | tuple):
        return any(isinstance(item, Tensor) and item.shape == (size,) for item in value)
    return isinstance(value, Tensor) and value.shape == (size,) and value.shape != parameter.shape
