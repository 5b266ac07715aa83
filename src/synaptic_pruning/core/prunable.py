"""Choose the prunable parameters of a model by layer type and name pattern, say what is left, and unwrap models."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm

from synaptic_pruning.core.parameter import PrunableParameter
from synaptic_pruning.core.sharding import Shard, local

_PRUNABLE = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}
_KEEP_ZEROS = (_SpectralNorm,)
"""Parametrizations that make zeros of zeros and nothing else of them."""
_MADE_FROM = re.compile(r"parametrizations\.(\w+)\.original$|(\w+)_orig$")


class Choice(NamedTuple):
    """What of a model is prunable.

    Attributes:
        parameters: The prunable parameters, all weights alive.
        others: Names and numbers of all other weights, those of two or more dimensions; the largest first.
        unknown: Those of them that nobody has left out: in layers of no known type, neither embedded nor frozen.
    """

    parameters: list[PrunableParameter]
    others: dict[str, int]
    unknown: dict[str, int]


class _Owned(NamedTuple):
    """A parameter, the layer it belongs to, and the parametrization that turns its zeros into something else."""

    name: str
    parameter: nn.Parameter
    layer: nn.Module
    breaks: str


def is_input_first(layer: nn.Module) -> bool:
    """Return whether it is a Conv1D of transformers, as in GPT-2: a Linear layer whose weight is (inputs, outputs)."""
    kinds = type(layer).__mro__
    return any(f"{kind.__module__}.{kind.__name__}" == "transformers.pytorch_utils.Conv1D" for kind in kinds)


def tensor_name(parameter: str) -> str:
    """Return the name of the tensor that is made from a parameter; the same name where that is itself.

    Example:
        >>> [tensor_name(name) for name in ("weight", "parametrizations.weight.original", "weight_orig")]
        ['weight', 'weight', 'weight']
    """
    return _MADE_FROM.sub(lambda match: match[1] or match[2], parameter)


def find_parameter(layer: nn.Module, name: str) -> nn.Parameter | None:
    """Return the parameter from which a tensor of a layer is made, mostly itself; None where there is none."""
    return next((p for own, p in layer.named_parameters() if tensor_name(own) == name), None)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module inside what ``torch.compile`` or data parallelism wrapped around it."""
    while True:
        compiled = getattr(model, "_orig_mod", None)
        if isinstance(compiled, nn.Module):
            model = compiled
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def choose_parameters(model: nn.Module, include: Sequence[str] | None, exclude: Sequence[str], biases: bool) -> Choice:
    """Return what of a model is prunable.

    Args:
        model: The network.
        include: Name patterns; see `Synapses`.
        exclude: Name patterns; see `Synapses`.
        biases: Whether biases are taken too.

    Raises:
        ValueError: A pattern matches nothing, a chosen parameter is none of the weights but something they are made
            from (``weight_norm``), or nothing is left to prune.
    """
    include, exclude = _patterns("include", include), _patterns("exclude", exclude) or []
    owned = list(_owned(model))
    lazy = [one.name for one in owned if nn.parameter.is_lazy(one.parameter)]
    if lazy:
        raise ValueError(f"{lazy[0]} has no shape yet; run one batch through the model before pruning it")
    for pattern in [*(include or []), *exclude]:
        if not any(fnmatchcase(one.name, pattern) for one in owned):
            raise ValueError(f"the pattern {pattern!r} in include= or exclude= matches no parameter of the model")
    embedded = {id(one.parameter) for one in owned if isinstance(one.layer, nn.Embedding | nn.EmbeddingBag)}
    dropped = {id(one.parameter) for one in owned if _matches(one.name, exclude)}
    chosen: dict[int, PrunableParameter] = {}
    for one in owned:
        if include is None:
            found = _is_prunable(one, biases) and one.parameter.requires_grad and id(one.parameter) not in embedded
        else:
            found = _matches(one.name, include)
        if found and id(one.parameter) not in dropped and id(one.parameter) not in chosen:
            if one.breaks:
                raise ValueError(
                    f"{one.name} cannot be pruned: {one.breaks} makes the weights from it and keeps no zeros; "
                    "take it off first, as with torch.nn.utils.parametrize.remove_parametrizations, "
                    "or leave the layer out with exclude="
                )
            chosen[id(one.parameter)] = _prunable(one)
    if not chosen:
        raise ValueError(
            "the model has no prunable weight: none in Linear, Conv, RNN or MultiheadAttention layers requires a "
            "gradient and passes include= and exclude="
        )
    matrices = [one for one in owned if one.parameter.dim() >= 2 and id(one.parameter) not in chosen]
    by_first_name = {id(one.parameter): one for one in reversed(matrices)}
    rest = sorted(by_first_name.values(), key=lambda one: -one.parameter.numel())
    left_out = embedded | dropped
    unknown = [
        one for one in rest if include is None and one.parameter.requires_grad and id(one.parameter) not in left_out
    ]
    return Choice(list(chosen.values()), _sizes(rest), _sizes(unknown))


def _owned(model: nn.Module) -> Iterator[_Owned]:
    """Return every parameter of a model, by every name it has."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        layer, breaks = module, ""
        if isinstance(module, ParametrizationList):
            layer = modules[path.rpartition("parametrizations.")[0].rstrip(".")]
            breaks = next((type(step).__name__ for step in module if not isinstance(step, _KEEP_ZEROS)), "")
        normed = {hook.name for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)}
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            made_by = "weight_norm" if name[:-2] in normed and name[-2:] in ("_g", "_v") else breaks
            yield _Owned(f"{path}.{name}" if path else name, parameter, layer, made_by)


def _is_prunable(one: _Owned, biases: bool) -> bool:
    known = isinstance(one.layer, _PRUNABLE) or is_input_first(one.layer)
    return known and (one.parameter.dim() >= 2 or biases)


def _prunable(one: _Owned) -> PrunableParameter:
    name, parameter, layer = one.name, one.parameter, one.layer
    gates = next((n for kind, n in _GATES.items() if isinstance(layer, kind) and "weight_hr" not in name), 1)
    transposed = layer.groups if isinstance(layer, nn.modules.conv._ConvTransposeNd) else int(is_input_first(layer))
    alive = torch.ones_like(local(parameter), dtype=torch.bool)
    return PrunableParameter(name, parameter, alive, gates, transposed, Shard.of(parameter))


def _sizes(owned: Iterable[_Owned]) -> dict[str, int]:
    return {one.name: one.parameter.numel() for one in owned}


def _patterns(argument: str, patterns: Sequence[str] | None) -> list[str] | None:
    if isinstance(patterns, str):
        raise ValueError(f"{argument}={patterns!r} must be a list of name patterns; write [{patterns!r}]")
    return None if patterns is None else list(patterns)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
