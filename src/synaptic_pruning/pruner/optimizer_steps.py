"""Follow the steps of an optimizer: unwrap it, call back around the outermost step, tell when none comes."""

import gc
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_WRAPPERS = {
    "accelerate.optimizer.AcceleratedOptimizer",
    "lightning.fabric.wrappers._FabricOptimizer",
    "lightning.pytorch.core.optimizer.LightningOptimizer",
    "lightning_fabric.wrappers._FabricOptimizer",
    "pytorch_lightning.core.optimizer.LightningOptimizer",
    "ray.train.torch.train_loop_utils._WrappedOptimizer",
}
"""Wrappers that write no weights and may skip the step of the optimizer inside."""

_PATIENCE = 256
"""Backward passes without a step until a word is said: more than anyone accumulates."""

Before = Callable[[Optimizer, Any, Any], tuple[Any, Any] | None]
After = Callable[[Optimizer, Any, Any], None]


def unwrap_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer that writes the weights, inside the wrappers of Accelerate, Lightning and Ray.

    Any other optimizer that holds one is returned itself, for it may write weights after the one inside.

    Raises:
        ValueError: Its ``step`` runs no hooks.
    """
    while _WRAPPERS & {f"{kind.__module__}.{kind.__qualname__}" for kind in type(optimizer).__mro__}:
        optimizer = optimizer.optimizer  # type: ignore[attr-defined]
    kind = type(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"optimizer is a {kind.__name__}, which is no torch.optim.Optimizer; give the one that it steps"
        )
    if not (getattr(kind.step, "hooked", False) and hasattr(optimizer, "_optimizer_step_post_hooks")):
        raise ValueError(
            f"{kind.__name__}.step runs no hooks, since {kind.__name__}.__init__ does not call "
            "torch.optim.Optimizer.__init__; call it there, or give the optimizer that writes the weights last"
        )
    return optimizer


def with_inner(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and all that it holds, such as the one inside of Lookahead, or several in a list.

    Example:
        >>> inner = torch.optim.SGD([nn.Parameter(torch.ones(1))])
        >>> outer = torch.optim.Adam(inner.param_groups[0]["params"])
        >>> outer.inner = [inner]
        >>> with_inner(outer) == [outer, inner]
        True
    """
    found = [optimizer]
    for one in found:
        for held in _held(vars(one).values()):
            if not any(held is known for known in found):
                found.append(held)
    return found


def find_holder(optimizer: Optimizer) -> Optimizer | None:
    """Return a live optimizer that holds this one; None where there is none."""
    others = (x for x in gc.get_objects() if issubclass(type(x), Optimizer) and x is not optimizer)
    return next((x for x in others if any(held is optimizer for held in with_inner(x))), None)


class OptimizerSteps:
    """Hooks on an optimizer and all that it holds, which call back around the outermost step that runs.

    A step inside another is no step of its own: that of an optimizer inside a wrapper, or of a base class that a
    subclass calls. An optimizer that is only held may also be stepped directly.

    Args:
        optimizer: What `unwrap_optimizer` returned.
        before: Called before each step as a step pre-hook is.
        after: Called after each step as a step post-hook is.
    """

    def __init__(self, optimizer: Optimizer, before: Before, after: After) -> None:
        self.optimizers = with_inner(optimizer)
        self._before, self._after = before, after
        self._running = 0
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Put the hooks in place."""
        enter, leave = untraced(self._enter), untraced(self._leave)
        for one in self.optimizers:
            if hasattr(one, "_optimizer_step_post_hooks"):
                self._handles += [one.register_step_pre_hook(enter), one.register_step_post_hook(leave)]

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        # What counts the running steps is wrong after one that raised: then the calls that are running tell.
        if self._running:
            self._running = _running_steps(optimizer) - 1
        self._running += 1
        return self._before(optimizer, args, kwargs) if self._running == 1 else None

    def _leave(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._running -= 1
        if self._running == 0:
            self._after(optimizer, args, kwargs)


class MissingSteps:
    """Counts backward passes until the first step comes, to say that none does.

    Args:
        name: Class of the optimizer that is expected to step.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._handle: RemovableHandle | None = None

    @property
    def found(self) -> bool:
        """Whether gradients were made, but no step has come."""
        return self._handle is not None and self._count > 0

    def watch(self, parameter: nn.Parameter) -> None:
        """Count the gradients of a parameter from now on, and warn at the 256th."""
        self._handle = parameter.register_post_accumulate_grad_hook(self._note)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """A step has come, or none is expected any more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def warn(self) -> None:
        """Say that no step came."""
        warnings.warn(
            f"nothing is pruned: {self._count} backward passes and not one step of {self._name}; "
            "give the pruner the optimizer whose step() the training calls",
            stacklevel=3,
        )

    def _note(self, _: nn.Parameter) -> None:
        self._count += 1
        if self._count == _PATIENCE:
            self.warn()


def skipped(optimizer: Optimizer) -> bool:
    """Return whether a fused optimizer skipped its step: GradScaler calls it even then, and marks the optimizer."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.any())


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile from tracing into a hook, which branches on data, at no cost where nothing is compiled."""
    disabled = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]

    def call(*args: Any) -> Any:
        return disabled(*args) if torch.compiler.is_compiling() else hook(*args)

    return call


def _held(values: Iterable[Any]) -> Iterator[Optimizer]:
    for value in values:
        if isinstance(value, Optimizer):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Optimizer))
        elif type(value) is dict:
            yield from (item for item in value.values() if isinstance(item, Optimizer))


def _running_steps(optimizer: Optimizer) -> int:
    """Return how many calls of an optimizer's step are running, this one included."""
    code = type(optimizer).step.__code__  # of what runs the hooks: the same for all optimizers
    count, frame = 0, sys._getframe()
    while frame is not None:
        count += frame.f_code is code
        frame = frame.f_back  # type: ignore[assignment]
    return count
