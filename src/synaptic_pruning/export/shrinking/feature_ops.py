"""Which calls keep features apart: what `follow.py` understands of PyTorch's functions."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from synaptic_pruning.export.shrinking.layers import BatchNorm
from synaptic_pruning.export.shrinking.unit_graph import Tag, along

POINTWISE_MODULES = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.GELU,
        nn.Tanh,
        nn.Sigmoid,
        nn.SiLU,
        nn.ELU,
        nn.SELU,
        nn.LeakyReLU,
        nn.Softplus,
        nn.Mish,
    ),
    *(nn.Hardswish, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
)
POOLING_MODULES = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
POINTWISE = {
    *(
        torch.relu,
        torch.tanh,
        torch.sigmoid,
        torch.abs,
        torch.exp,
        operator.neg,
        functional.relu,
        functional.gelu,
    ),
    *(functional.silu, functional.elu, functional.leaky_relu, functional.softplus, functional.dropout),
    *("relu", "tanh", "sigmoid", "abs", "exp", "neg", "contiguous", "clone", "detach"),
}
BINARY = {
    *(
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.iadd,
        operator.isub,
        operator.imul,
    ),
    *(torch.add, torch.sub, torch.mul, torch.div, "add", "sub", "mul", "div"),
}
IN_PLACE = {operator.iadd, operator.isub, operator.imul}
SHAPE = {
    *(
        torch.permute,
        torch.transpose,
        torch.unsqueeze,
        torch.squeeze,
        torch.flatten,
        torch.reshape,
        torch.cat,
    ),
    *(torch.concat, torch.movedim, torch.swapaxes, operator.getitem),
    *(
        "permute",
        "transpose",
        "unsqueeze",
        "squeeze",
        "flatten",
        "reshape",
        "view",
        "expand",
        "movedim",
        "swapaxes",
    ),
}
REDUCE = {torch.mean, torch.sum, torch.amax, torch.amin, "mean", "sum", "amax", "amin"}
ASK_SHAPE = {getattr, "size", "dim", operator.getitem}  # getitem of a shape, not of a tensor


@dataclass
class Whole:
    """A result that can only be used as a whole, such as the final states of all layers in one tensor.

    Using it pins `groups`; `last` is the tag of its last element, which can be told apart.
    """

    groups: list[Tensor]
    reason: str
    last: tuple[Tensor, Tensor] | None = None


def keeps_features(node: fx.Node, sources: list[Tag], out: Tag) -> bool:
    """Whether a call that moves values about would give the same features, in order, with fewer of them."""
    axes, before = out.axes(), list[Tensor]()
    for source in sources:
        found = source.axes()
        vector = along(source.ids, found[0]) if source.ids is not None and len(found) == 1 else None
        if vector is not None:
            before.append(vector)
        elif found:
            return False
    if not before:
        return True
    after = along(out.ids, axes[0]) if out.ids is not None and len(axes) == 1 else None
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


def affine(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation as scale and shift."""
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        raise ValueError("a BatchNorm without running statistics mixes its batch")
    scale = (variance.double() + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight.detach().double()
    shift = -mean.double() * scale
    return scale, shift if layer.bias is None else shift + layer.bias.detach().double()


def unknown_like(value: Tensor) -> Tensor:
    """Constants of a tensor of which none is known."""
    return torch.full(value.shape, torch.nan, dtype=torch.double)


def called(node: fx.Node) -> str:
    """What a node calls, for people."""
    return str(getattr(node.target, "__name__", node.target))
