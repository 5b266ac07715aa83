"""List the PyTorch operations that keep features apart, and judge whether a call does."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from synaptic_pruning.export.shrinking.layers import BatchNorm
from synaptic_pruning.export.shrinking.unit_graph import UnitTag, vector_along

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.Softplus, nn.Mish)
_BOUNDED = (nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Hardtanh)
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)  # in evaluation mode
POINTWISE_MODULES = (*_ACTIVATIONS, *_BOUNDED, *_IDENTITIES)

_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d)
_ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
POOLING_MODULES = (*_POOLS, *_ADAPTIVE_POOLS)

# Functions, and names of tensor methods.
_FUNCTIONAL = {functional.relu, functional.gelu, functional.silu, functional.elu, functional.leaky_relu}
POINTWISE = {
    *{torch.relu, torch.tanh, torch.sigmoid, torch.abs, torch.exp, operator.neg},
    *_FUNCTIONAL | {functional.softplus, functional.dropout},
    *{"relu", "tanh", "sigmoid", "abs", "exp", "neg", "contiguous", "clone", "detach"},
}
IN_PLACE = {operator.iadd, operator.isub, operator.imul}
BINARY = {
    *{operator.add, operator.sub, operator.mul, operator.truediv} | IN_PLACE,
    *{torch.add, torch.sub, torch.mul, torch.div},
    *{"add", "sub", "mul", "div"},
}
RESHAPES = {
    *{torch.permute, torch.transpose, torch.movedim, torch.swapaxes, torch.unsqueeze, torch.squeeze},
    *{torch.flatten, torch.reshape, torch.cat, torch.concat, operator.getitem},
    *{"permute", "transpose", "movedim", "swapaxes", "unsqueeze", "squeeze"},
    *{"flatten", "reshape", "view", "expand"},
}
REDUCTIONS = {torch.mean, torch.sum, torch.amax, torch.amin, "mean", "sum", "amax", "amin"}
SHAPE_QUERIES = {getattr, "size", "dim", operator.getitem}  # getitem of a shape, not of a tensor


@dataclass
class OpaqueResult:
    """A result that can only be used as a whole, such as one tensor of all layers' final states.

    Attributes:
        groups: Units to pin where the result is used.
        reason: Why they must stay.
        last: Units and constants of the result's last element, if that can be used on its own.
    """

    groups: list[Tensor]
    reason: str
    last: tuple[Tensor, Tensor] | None = None


def keeps_features(node: fx.Node, sources: list[UnitTag], out: UnitTag) -> bool:
    """Return whether a reshaping call would give the same features in the same order if there were fewer.

    Args:
        node: The call.
        sources: Tags of its inputs.
        out: Tag of its output.
    """
    axes, before = out.axes(), list[Tensor]()
    for source in sources:
        found = source.axes()
        vector = vector_along(source.ids, found[0]) if source.ids is not None and len(found) == 1 else None
        if vector is not None:
            before.append(vector)
        elif found:
            return False
    if not before:
        return True
    after = vector_along(out.ids, axes[0]) if out.ids is not None and len(axes) == 1 else None
    want, count = torch.cat(before), torch.cat(before).numel()
    if after is None or after.numel() % count:
        return False
    times = after.numel() // count
    if not (after.equal(want) or after.equal(want.repeat_interleave(times)) or after.equal(want.repeat(times))):
        return False
    if node.target in (torch.reshape, "reshape", "view", "expand"):
        sizes: Any = node.args[1] if isinstance(node.args[1], list | tuple) else node.args[1:]
        wanted = sizes[axes[0]] if len(sizes) == out.constant.dim() else 0
        return isinstance(wanted, fx.Node) or bool(wanted == -1)
    return True


def batchnorm_affine(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return a BatchNorm in evaluation mode as scale and shift (channels), float64.

    Raises:
        ValueError: The layer has no running statistics.
    """
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        raise ValueError("a BatchNorm without running statistics mixes its batch")
    scale = (variance.double() + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight.detach().double()
    shift = -mean.double() * scale
    return scale, shift if layer.bias is None else shift + layer.bias.detach().double()


def nan_like(value: Tensor) -> Tensor:
    """Return constants (float64) for a tensor of which none is known."""
    return torch.full(value.shape, torch.nan, dtype=torch.double)


def call_name(node: fx.Node) -> str:
    """Return the name of what a node calls, for messages."""
    return str(getattr(node.target, "__name__", node.target))
