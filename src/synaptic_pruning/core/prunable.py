"""Choose the prunable parameters of a model by layer type and name pattern, and unwrap models."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

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


def choose_parameters(
    model: nn.Module, include: Sequence[str] | None, exclude: Sequence[str], biases: bool
) -> list[PrunableParameter]:
    """Return the prunable parameters of a model, all weights alive.

    Args:
        model: The network.
        include: Name patterns; see `Synapses`.
        exclude: Name patterns; see `Synapses`.
        biases: Whether biases are taken too.

    Raises:
        ValueError: A pattern matches nothing, or nothing is left to prune.
    """
    include, exclude = _patterns("include", include), _patterns("exclude", exclude) or []
    owned = [
        (f"{path}.{name}" if path else name, parameter, module)
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]
    lazy = [name for name, p, _ in owned if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"{lazy[0]} has no shape yet; run one batch through the model before pruning it")
    if include is None:
        embedded = {id(p) for _, p, module in owned if isinstance(module, nn.Embedding | nn.EmbeddingBag)}
        found = [
            (name, p, module)
            for name, p, module in owned
            if isinstance(module, _PRUNABLE) and (p.dim() >= 2 or biases) and p.requires_grad and id(p) not in embedded
        ]
    else:
        found = [entry for entry in owned if _matches(entry[0], include)]
    for pattern in [*(include or []), *exclude]:
        if not any(fnmatchcase(name, pattern) for name, _, _ in owned):
            raise ValueError(f"the pattern {pattern!r} in include= or exclude= matches no parameter of the model")
    dropped = {id(p) for name, p, _ in owned if _matches(name, exclude)}
    chosen: dict[int, PrunableParameter] = {}
    for name, p, module in found:
        gates = next((n for kind, n in _GATES.items() if isinstance(module, kind) and "weight_hr" not in name), 1)
        transposed = module.groups if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
        if id(p) not in dropped and id(p) not in chosen:
            alive = torch.ones_like(local(p), dtype=torch.bool)
            chosen[id(p)] = PrunableParameter(name, p, alive, gates, transposed, Shard.of(p))
    if not chosen:
        raise ValueError(
            "the model has no prunable weight: none in Linear, Conv, RNN or MultiheadAttention layers requires a "
            "gradient and passes include= and exclude="
        )
    return list(chosen.values())


def _patterns(argument: str, patterns: Sequence[str] | None) -> list[str] | None:
    if isinstance(patterns, str):
        raise ValueError(f"{argument}={patterns!r} must be a list of name patterns; write [{patterns!r}]")
    return None if patterns is None else list(patterns)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
