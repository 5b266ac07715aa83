"""Register each parameter with at most one pruner."""

import gc
import weakref

import torch

from synaptic_pruning.core import PrunableParameter

_owners: "weakref.WeakValueDictionary[int, object]" = weakref.WeakValueDictionary()


def claim(layers: list[PrunableParameter], optimizer: torch.optim.Optimizer, owner: object) -> None:
    """Register the owner of every layer.

    Raises:
        ValueError: The optimizer does not train one of them, or another owner has one; nothing was registered.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [layer.name for layer in layers if id(layer.parameter) not in trained]
    if missing:
        raise ValueError(
            f"the optimizer lacks {len(missing)} prunable parameters, such as {missing[0]}; "
            "give it model.parameters(), or leave them out with exclude="
        )
    if any(id(layer.parameter) in _owners for layer in layers):
        gc.collect()  # an optimizer and pruner that were dropped together may still be waiting to be freed
    for layer in layers:
        if id(layer.parameter) in _owners:
            raise ValueError(
                f"{layer.name} is already pruned by another SynapticPruner; call its remove() first, "
                "or divide the parameters with include= and exclude="
            )
    for layer in layers:
        _owners[id(layer.parameter)] = owner


def release(layers: list[PrunableParameter], owner: object) -> None:
    """Unregister the layers of this owner."""
    for layer in layers:
        if _owners.get(id(layer.parameter)) is owner:
            del _owners[id(layer.parameter)]
