"""Observers: one function a kind of module that sums the absolute inputs of each weight over one call.

An observer takes what a forward hook gets and returns an `InputStats` for every weight of the module. Inputs that no
hook gets are computed again, without gradient and without dropout: states inside a deep recurrent network, attention
before its output projection.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.rnn import PackedSequence

from synaptic_pruning.core.prunable import is_input_first

_RUN: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


class InputStats(NamedTuple):
    """Absolute inputs of one parameter in one call.

    Attributes:
        name: The parameter's name in its module.
        total: Their sum over the samples, in float32 at least. Shape (blocks, ...): the parameter's rows are that many
            equal blocks, each with inputs of its own.
        samples: Vectors; of convolutions, images, each counting with its mean.
    """

    name: str
    total: Tensor
    samples: int


Observer = Callable[[Any, tuple[Any, ...], Mapping[str, Any], Any], list[InputStats]]


def find_observer(module: nn.Module) -> Observer | None:
    """Return the function for that kind of module; None where its inputs cannot be stats."""
    observer = next((observer for kind, observer in _KINDS if isinstance(module, kind)), None)
    if is_input_first(module):
        return _input_first
    # torch.compile must not trace into what computes a layer anew. Done here, since it imports the compiler.
    return torch.compiler.disable(observer) if observer in (_recurrent, _attention) else observer  # type: ignore[no-untyped-call]


def stats_shape(module: nn.Module, name: str, weight: Tensor) -> tuple[int, ...]:
    """Return the shape of `InputStats.total` for a parameter."""
    if isinstance(module, _ConvTransposeNd) or is_input_first(module):
        return (weight.shape[0], *[1] * (weight.dim() - 1))
    blocks = module.groups if isinstance(module, _ConvNd) else 3 if name == "in_proj_weight" else 1
    return (blocks, *weight.shape[1:])


def _linear(module: nn.Linear, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    return [_stats("weight", _input(args, kwargs, 0, "input"))]


def _input_first(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    """Give each row of the weight, which belongs to one input, a sum of its own."""
    stats = _stats("weight", _input(args, kwargs, 0, "x"))
    return [stats._replace(total=stats.total.T)]


def _bilinear(module: nn.Bilinear, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    first, second = (_input(args, kwargs, i, f"input{i + 1}").abs().flatten(0, -2) for i in range(2))
    return [InputStats("weight", (first.T @ second)[None], len(first))]


def _convolution(module: _ConvNd, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    """Average the inputs at the offset of each tap of the kernel, over the sum of all images."""
    x = _input(args, kwargs, 0, "input")
    images, count = _sum_images(module, x)
    padding = module._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        images = nn.functional.pad(images, padding, mode)
    dims = len(module.kernel_size)
    for dim in range(dims):
        reach = (module.kernel_size[dim] - 1) * module.dilation[dim] + 1
        images = images.unfold(1 + dim, reach, module.stride[dim])[..., :: module.dilation[dim]]
    taps = images.mean(tuple(range(1, 1 + dims)))
    return [InputStats("weight", taps.view(module.groups, -1, *module.kernel_size), count)]


def _transposed(module: _ConvNd, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    images, count = _sum_images(module, _input(args, kwargs, 0, "input"))
    return [InputStats("weight", images.flatten(1).mean(1).view(-1, *[1] * images.dim()), count)]


def _cell(module: nn.RNNCellBase, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    x, state = _input(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "hx")
    hidden = state[0] if isinstance(state, tuple) else state
    hidden = x.new_zeros(*x.shape[:-1], module.hidden_size) if hidden is None else hidden.detach()
    return [_stats("weight_ih", x), _stats("weight_hh", hidden)]


@torch.no_grad()
def _recurrent(module: nn.RNNBase, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[InputStats]:
    """Walk through the layers. A layer's recurrent inputs are h_0 and all its outputs but the last, h_n."""
    x, state = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "hx")
    sizes = x.batch_sizes if isinstance(x, PackedSequence) else None
    initial = state[0] if isinstance(state, tuple) else state
    if isinstance(x, PackedSequence) and initial is not None and x.sorted_indices is not None:
        initial = initial[:, x.sorted_indices]
    last = output[1][0] if isinstance(output[1], tuple) else output[1]
    cells = state[1] if isinstance(state, tuple) else None
    if isinstance(x, PackedSequence) and cells is not None and x.sorted_indices is not None:
        cells = cells[:, x.sorted_indices]
    data = x.data if isinstance(x, PackedSequence) else x
    if data.dim() == 2 and sizes is None:  # one sequence without a batch dimension
        data, last = data.unsqueeze(0 if module.batch_first else 1), last.unsqueeze(1)
        initial, cells = (None if s is None else s.unsqueeze(1) for s in (initial, cells))
    ways = 2 if module.bidirectional else 1
    stats = []
    for layer in range(module.num_layers):
        here = slice(layer * ways, (layer + 1) * ways)
        start = None if initial is None else initial[here]
        inner = None
        if layer < module.num_layers - 1 or module.proj_size:
            memory = None if cells is None else cells[here]
            out, final, inner = _run(module, layer, data, sizes, start, memory)
        else:
            out, final = output[0], last[here]
            out = out.data if isinstance(out, PackedSequence) else out
        for way, h in enumerate(out.chunk(ways, -1)):
            suffix = f"_l{layer}{'_reverse' if way else ''}"
            stats.append(_stats(f"weight_ih{suffix}", data))
            total = _sum(h) - _sum(final[way]) + (0 if start is None else _sum(start[way]))
            stats.append(InputStats(f"weight_hh{suffix}", total.clamp(min=0), h.numel() // h.shape[-1]))
            if inner is not None:
                stats.append(_stats(f"weight_hr{suffix}", inner.chunk(ways, -1)[way]))
        data = out
    return stats


def _run(
    module: nn.RNNBase, layer: int, data: Tensor, sizes: Tensor | None, start: Tensor | None, cells: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer; return its outputs, its final states and, with projections, the states before them.

    With projections h = P m, and the layer is the one without projections whose recurrent weight is W_hh P: its states
    are m.
    """
    ways = 2 if module.bidirectional else 1
    weights: list[list[Tensor]] = [list(some) for some in module.all_weights[layer * ways : (layer + 1) * ways]]
    projections = [some.pop() for some in weights] if module.proj_size else []
    for some, projection in zip(weights, projections, strict=False):
        some[1] = some[1] @ projection
    data = data.to(weights[0][0].dtype)
    batch = int(sizes[0]) if sizes is not None else data.shape[0 if module.batch_first else 1]
    zeros = data.new_zeros(ways, batch, module.hidden_size)
    if start is None:
        start = zeros
    elif projections:  # any m with P m = h_0 starts it alike
        inverses = zip(start, projections, strict=True)
        start = torch.stack([h.float() @ torch.linalg.pinv(p.float()).T for h, p in inverses]).to(data.dtype)
    hidden = [start, zeros if cells is None else cells] if module.mode == "LSTM" else start
    flat = [weight for some in weights for weight in some]
    common = (hidden, flat, module.bias, 1, 0.0, False, module.bidirectional)
    run = _RUN[module.mode]
    out, final, *_ = run(data, *common, module.batch_first) if sizes is None else run(data, sizes, *common)
    if not projections:
        return out, final, None
    projected = [m @ p.T for m, p in zip(out.chunk(ways, -1), projections, strict=True)]
    last = torch.stack([m @ p.T for m, p in zip(final, projections, strict=True)])
    return torch.cat(projected, -1), last, out


@torch.no_grad()
def _attention(
    module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> list[InputStats]:
    """The output projection's inputs come from the same attention with the identity in its place."""
    names = ("query", "key", "value")
    inputs = [_argument(args, kwargs, i, name) for i, name in enumerate(names)]
    if module.in_proj_weight is None:
        stats = [_stats(f"{name[0]}_proj_weight", x) for name, x in zip(names, inputs, strict=True)]
    else:
        each = {id(x): _stats("", x) for x in inputs}
        samples = each[id(inputs[0])].samples  # keys may be more or fewer than queries
        blocks = [each[id(x)].total * (samples / each[id(x)].samples) for x in inputs]
        stats = [InputStats("in_proj_weight", torch.cat(blocks), samples)]
    out = module.out_proj
    plain = {"out_proj.weight": torch.eye(*out.weight.shape, dtype=out.weight.dtype, device=out.weight.device)}
    if out.bias is not None:
        plain["out_proj.bias"] = torch.zeros_like(out.bias)
    rate, module.dropout = module.dropout, 0.0
    try:
        heads = torch.func.functional_call(module, plain, args, dict(kwargs))[0]
    finally:
        module.dropout = rate
    return [*stats, _stats("out_proj.weight", heads)]


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str) -> Tensor:
    """Return a tensor argument without its graph, which costs a small layer less than to turn gradients off."""
    tensor: Tensor = _argument(args, kwargs, place, name).detach()
    return tensor


def _sum(x: Tensor) -> Tensor:
    """Sum |x| over all but the last dimension, in float32 at least; shape (1, features)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.reshape(-1, x.shape[-1]).abs().sum(0, keepdim=True, dtype=wide)


def _stats(name: str, x: Tensor) -> InputStats:
    return InputStats(name, _sum(x), x.numel() // x.shape[-1])


def _sum_images(module: _ConvNd, x: Tensor) -> tuple[Tensor, int]:
    """Sum |x| over the batch: shape (channels, ...), and the number of images."""
    if x.dim() == len(module.kernel_size) + 1:
        x = x[None]
    return x.abs().sum(0, dtype=torch.promote_types(x.dtype, torch.float32)), len(x)


_KINDS: list[tuple[type[nn.Module], Observer]] = [
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (_ConvTransposeNd, _transposed),
    (_ConvNd, _convolution),
    (nn.RNNCellBase, _cell),
    (nn.RNNBase, _recurrent),
    (nn.MultiheadAttention, _attention),
]
