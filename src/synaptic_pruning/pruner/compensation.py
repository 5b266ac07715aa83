"""Compensation: while a step runs, learning rates are raised as the density falls, so that what stays learns faster."""

import functools
import math
import numbers
import warnings
import weakref
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from synaptic_pruning.core import Synapses

_compensated: "weakref.WeakSet[Optimizer]" = weakref.WeakSet()
"""Optimizers whose rates follow the density of one pruner already."""


def check_limit(limit: float) -> None:
    """Refuse what is no limit of compensation.

    Raises:
        ValueError: It is not a finite number of at least 1.
    """
    number = isinstance(limit, numbers.Real) and not isinstance(limit, bool)
    if not (number and math.isfinite(limit) and limit >= 1):
        raise ValueError(
            f"compensate={limit!r} must be a finite number of at least 1: the most by which learning rates are "
            "multiplied; 1 leaves them alone"
        )


def may_compensate(optimizers: Sequence[Optimizer]) -> bool:
    """Return whether there are learning rates that no other pruner multiplies."""
    return _have_rates(optimizers) and not _are_compensated(optimizers)


def _have_rates(optimizers: Sequence[Optimizer]) -> bool:
    return any(group.get("lr") is not None for one in optimizers for group in one.param_groups)


def _are_compensated(optimizers: Sequence[Optimizer]) -> bool:
    return any(one in _compensated for one in optimizers)


class Compensation:
    """Multiplies the learning rates of all parameter groups by ``min(1 / √density, limit)`` while a step runs.

    A step moves what a unit puts out the less, the fewer inputs it has. The square root was the best exponent with few
    inputs and with many (docs/recipe.md).

    The factor follows from the masks, so nothing of it needs to be saved. A rate that is a tensor is changed in place
    and without waiting for its device. With a limit of 1 nothing is touched.

    Args:
        optimizers: The optimizer and those that it holds; a rate that several of them share is multiplied once.
        synapses: The prunable weights, of which the density is taken.
        limit: Largest factor, at least 1; see `check_limit`.

    Raises:
        ValueError: No parameter group has a learning rate.
    """

    def __init__(self, optimizers: Sequence[Optimizer], synapses: Synapses, limit: float) -> None:
        self._optimizers, self._synapses, self._limit = optimizers, synapses, float(limit)
        self._factor = 1.0
        self._numbers: list[tuple[dict[str, Any], Any, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor, Tensor]] = []
        self._guards: list[Callable[[], None]] = []
        self._told = False
        if self._limit > 1 and not _have_rates(optimizers):
            raise ValueError(
                f"{type(optimizers[0]).__name__} has no learning rate lr in its parameter groups that compensate="
                f"{limit!r} could multiply; give it one, or set compensate=1"
            )

    def attach(self) -> None:
        """Have the rates put back when a step raises, too, of which no hook is told.

        Raises:
            ValueError: Another pruner compensates one of the optimizers; nothing was changed.
        """
        if self._limit == 1:
            return
        if _are_compensated(self._optimizers):
            raise ValueError(
                f"the learning rates of this {type(self._optimizers[0]).__name__} already follow the density of "
                "another SynapticPruner, which would multiply them twice; give one of the two compensate=1"
            )
        for one in self._optimizers:
            _compensated.add(one)
            self._guards.append(_on_failure(one, self.end))

    def remove(self) -> None:
        """Leave the optimizers to others."""
        self.end()
        if self._guards:
            _compensated.difference_update(self._optimizers)
        for take_away in self._guards:
            take_away()
        self._guards = []

    @property
    def factor(self) -> float:
        """By which rates are multiplied while a step runs, at the present density."""
        return self._factor

    def refresh(self) -> None:
        """Take up the present density, of which everything alive is 1."""
        alive = self._synapses.count
        self._factor = min(math.sqrt(self._synapses.total / alive), self._limit) if alive else self._limit

    def begin(self) -> None:
        """Raise the rates."""
        self.end()  # after a step that raised where something has taken the guard away
        if self._factor == 1:
            return
        for group in self._groups():
            rate = group.get("lr")
            if isinstance(rate, Tensor):
                if all(rate is not known for known, _, _ in self._tensors):
                    value = rate.detach()  # the same memory, for one that autograd follows may not be written
                    self._tensors.append((rate, value, value.clone()))
                    value.mul_(self._factor)
            elif rate is not None:
                group["lr"] = rate * self._factor
                self._numbers.append((group, rate, group["lr"]))

    def end(self) -> None:
        """Put the rates back exactly; nothing happens where they were not raised."""
        for group, rate, raised in self._numbers:
            if group["lr"] is not raised:
                self._tell_of_writes()
            group["lr"] = rate
        for _, value, saved in self._tensors:
            value.copy_(saved)
        self._numbers.clear()
        self._tensors.clear()

    def _groups(self) -> list[dict[str, Any]]:
        """Return every parameter group once, also of optimizers that share them."""
        return list({id(group): group for one in self._optimizers for group in one.param_groups}.values())

    def _tell_of_writes(self) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"{type(self._optimizers[0]).__name__}.step() sets its own learning rate, which was put back because "
                f"of compensate={self._limit:g}; set rates outside of the step, or set compensate=1",
                stacklevel=3,
            )


def _on_failure(optimizer: Optimizer, call: Callable[[], None]) -> Callable[[], None]:
    """Have something called when a step of this optimizer raises; return what takes that away again."""
    plain, replaced = optimizer.step, vars(optimizer).get("step")

    @functools.wraps(getattr(plain, "__func__", plain))
    def step(_: Optimizer, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(*args, **kwargs)
        except BaseException:
            call()
            raise

    def take_away() -> None:
        if getattr(optimizer.step, "__func__", None) is not step:
            return  # someone has put another around it, and it has nothing to put back any more
        if replaced is None:
            del optimizer.step
        else:
            optimizer.step = replaced  # type: ignore[method-assign]

    # A method and not a plain function, for schedulers that come later look for what it is a method of.
    optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    return take_away
