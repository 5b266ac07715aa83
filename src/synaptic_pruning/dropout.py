"""Set dropout probabilities, and keep dropout on at inference (Monte-Carlo dropout)."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList

# Modules that would change their buffers, or the network, in training mode without being dropout.
_KEPT_STILL = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, ParametrizationList)


def set_dropout(model: nn.Module, p: float | Mapping[str, float]) -> dict[str, float]:
    """Set the rate of every dropout in a model: ``nn.Dropout*``, inside RNN/LSTM/GRU, in MultiheadAttention.

    Dropout called as a bare function in a model's own code cannot be seen.

    Args:
        model: The network, changed in place.
        p: The rate, in [0, 1); or a mapping such as this function returns, to set each module to its own rate.

    Returns:
        The rates before, by module name ("" is the model itself), of every module that was set.

    Raises:
        ValueError: p is outside [0, 1), a name is unknown, or p > 0 and the model has no dropout that could act. A
            one-layer LSTM has none: PyTorch's recurrent dropout lies between layers.

    Source: Srivastava et al. (2014).

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        >>> before = set_dropout(net, 0.0)
        >>> before, net[1].p
        ({'1': 0.5}, 0.0)
        >>> set_dropout(net, before)
        {'1': 0.0}
    """
    places = _dropouts(model)
    if isinstance(p, Mapping):
        unknown = [name for name in p if name not in places]
        if unknown:
            raise ValueError(f"p names {unknown[0]!r}, which is no dropout of this model; it has {sorted(places)}")
        wanted = dict(p)
    else:
        if p > 0 and not places:
            raise ValueError(
                f"p={p} would do nothing: the model has no dropout that can act (a one-layer LSTM has none, "
                "whatever its dropout=); add an nn.Dropout"
            )
        wanted = dict.fromkeys(places, p)
    for name, rate in wanted.items():
        if not 0 <= rate < 1:
            raise ValueError(f"p={rate} for {name!r} must be in [0, 1)")
    before = {name: _rate(places[name]) for name in wanted}
    for name, rate in wanted.items():
        setattr(places[name], "p" if isinstance(places[name], _DropoutNd) else "dropout", float(rate))
    return before


@contextmanager
def monte_carlo_dropout(model: nn.Module) -> Iterator[nn.Module]:
    """Turn dropout on for inference and put every module back as it was afterwards, also after an error.

    The whole model goes to training mode, so dropout called as ``F.dropout(..., self.training)`` acts too, and layers
    that would change themselves (batch normalisation and its kin) stay as in evaluation. Run at least 50 passes,
    average the forecasts, then score the average.

    Warns:
        UserWarning: The model has no dropout that can act, so all passes would be equal.

    Source: Gal & Ghahramani (2016).

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5)).eval()
        >>> x = torch.ones(1, 4)
        >>> with monte_carlo_dropout(net), torch.no_grad():
        ...     passes = torch.stack([net(x) for _ in range(50)])
        >>> bool(passes.std() > 0), net.training
        (True, False)
    """
    if not any(_rate(module) > 0 for module in _dropouts(model).values()):
        warnings.warn(
            "the model has no dropout that can act (a one-layer LSTM has none, whatever its dropout=), so all "
            "Monte-Carlo passes will be equal; add an nn.Dropout or set_dropout(model, p)",
            stacklevel=3,
        )
    modes = {module: module.training for module in model.modules()}
    try:
        model.train()
        for module in model.modules():
            if isinstance(module, _KEPT_STILL):
                module.eval()
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def _dropouts(model: nn.Module) -> dict[str, nn.Module]:
    """Find the modules whose dropout can act; a rate of 0 is one that could."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _DropoutNd | nn.MultiheadAttention)
        or (isinstance(module, nn.RNNBase) and module.num_layers > 1)
    }


def _rate(module: nn.Module) -> float:
    return float(module.p if isinstance(module, _DropoutNd) else module.dropout)  # type: ignore[arg-type]
