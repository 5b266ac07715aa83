"""Register each parameter with at most one pruner, and tell the pruner when another optimizer steps it."""

import gc
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from synaptic_pruning.core import PrunableParameter
from synaptic_pruning.pruner.optimizer_steps import untraced


class Owner(Protocol):
    """A pruner, as far as this file knows it."""

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Its optimizer and those that this one holds."""

    def on_other_step(self, optimizer: Optimizer) -> None:
        """Take note that an optimizer that is none of these has changed its parameters."""


_owners: "weakref.WeakValueDictionary[int, Owner]" = weakref.WeakValueDictionary()
_concerned: "weakref.WeakKeyDictionary[Optimizer, list[weakref.ref[Owner]]]" = weakref.WeakKeyDictionary()
"""For every optimizer that has stepped: the owners of its parameters that are not their own optimizer's."""


def claim(layers: list[PrunableParameter], owner: Owner) -> None:
    """Register the owner of every layer, which is told from now on when another optimizer has stepped one.

    Raises:
        ValueError: The optimizer does not train one of them, or another owner has one; nothing was registered.
    """
    trained = {id(p) for optimizer in owner.optimizers for group in optimizer.param_groups for p in group["params"]}
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
    _hook_all_optimizers()
    for layer in layers:
        _owners[id(layer.parameter)] = owner
    _concerned.clear()


def release(layers: list[PrunableParameter], owner: Owner) -> None:
    """Unregister the layers of this owner."""
    for layer in layers:
        if _owners.get(id(layer.parameter)) is owner:
            del _owners[id(layer.parameter)]
    _concerned.clear()


def _after_any_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _owners:
        return
    concerned = _concerned.get(optimizer)
    if concerned is None:
        owners = {_owners.get(id(p)) for group in optimizer.param_groups for p in group["params"]}
        concerned = [weakref.ref(o) for o in owners if o is not None and all(x is not optimizer for x in o.optimizers)]
        _concerned[optimizer] = concerned
    for reference in concerned:
        owner = reference()
        if owner is not None:
            owner.on_other_step(optimizer)


@cache
def _hook_all_optimizers() -> None:
    """Once, and not on import, for it imports the compiler."""
    register_optimizer_step_post_hook(untraced(_after_any_step))
