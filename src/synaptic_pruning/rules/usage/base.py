"""Base of the rules that prune by usage: observation windows, a state for each connection, floors."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core import PrunableParameter, Synapses
from synaptic_pruning.core.activity import ActivityMonitor, usage, warn_unobserved
from synaptic_pruning.core.topk import LazyScores, smallest_k
from synaptic_pruning.rules.base import Rule


@dataclass(kw_only=True)
class UsageRule(Rule):
    """Observe usage |w|·E|x| window by window and prune for good what the state of a connection marks.

    Sparsity is an outcome, not a target. A layer keeps at least ``1 − max_layer_sparsity`` of its weights, and each of
    its output units at least one. Where such a floor binds, the most used connections stay.

    Args:
        window: Optimizer steps of an observation window, at least 1; by default a window ends at every event.
        end: Training progress in (0, 1] from which nothing is pruned any more.
        max_layer_sparsity: No layer goes above it, in (0, 1).
        sample: One step in this many is observed, from the first of a window on.

    Raises:
        ValueError: A number outside its range.
    """

    window: int | None = None
    end: float = 0.5
    max_layer_sparsity: float = 0.99
    sample: int = 10
    _monitor: ActivityMonitor | None = field(default=None, init=False, repr=False)
    _states: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _activity: list[Tensor | None] = field(default_factory=list, init=False, repr=False)  # of the last window with any
    _steps: int = field(default=0, init=False, repr=False)
    _windows: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window={self.window} must be at least 1 optimizer step, or None for one an event")
        if not 0 < self.end <= 1:
            raise ValueError(f"end={self.end} must be a training progress in (0, 1]")
        if not 0 < self.max_layer_sparsity < 1:
            raise ValueError(f"max_layer_sparsity={self.max_layer_sparsity} must be in (0, 1): 1 would empty a layer")
        if self.sample < 1:
            raise ValueError(f"sample={self.sample} must be at least 1: one step in this many is observed")

    @abstractmethod
    def initial_state(self, layer: PrunableParameter) -> Tensor:
        """Return the state of each connection of a layer before the first window, of the parameter's shape."""

    @abstractmethod
    def update_state(self, layer: PrunableParameter, used: Tensor, mean: float, state: Tensor, window: int) -> None:
        """Update the state in place when a window ends.

        Args:
            layer: The layer.
            used: Usage of every connection in this window, the parameter's shape; 0 where it is pruned. May be changed.
            mean: Mean usage of the alive connections.
            state: As `initial_state` made it, of the same shape.
            window: Windows that ended before.
        """

    @abstractmethod
    def to_prune(self, state: Tensor) -> Tensor:
        """Return True where the state says that a connection is to be pruned."""

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Start to observe the model; see `Rule.attach`."""
        if self._monitor is not None and self._monitor.attached:
            raise ValueError(f"this {type(self).__name__} already serves another pruner; make a new one")
        self._monitor = ActivityMonitor(model, synapses, self.sample)
        self._states = [self.initial_state(layer) for layer in synapses.layers]
        self._activity = [None] * len(synapses.layers)
        self._steps = self._windows = 0
        return [layer.alive for layer in synapses.layers]

    def observe(self, synapses: Synapses) -> None:
        """Count the step, and end the window when it is full."""
        self._observing().step()
        self._steps += 1
        if self._steps == self.window:
            self._end_window(synapses)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks without the connections to prune; see `Rule.update`.

        Raises:
            ValueError: A weight is not finite; its parameter is named.
        """
        if self.window is None:
            self._end_window(synapses)
        if progress >= self.end:
            self._observing().stop()
        return [
            layer.alive if mean is None else self._apply_floors(layer, mean, self.to_prune(state))
            for layer, mean, state in zip(synapses.layers, self._activity, self._states, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the connections' states, the unfinished window and the last one's activity."""
        return {
            "activity": self._observing().state_dict(),
            "memory": [state.clone() for state in self._states],
            "last": list(self._activity),
            "steps": self._steps,
            "windows": self._windows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._observing().load_state_dict(state["activity"])
        for mine, theirs in zip(self._states, state["memory"], strict=True):
            mine.copy_(theirs)
        self._activity = list(state["last"])
        self._steps, self._windows = state["steps"], state["windows"]

    def detach(self) -> None:
        """Stop observing; the connections' states stay readable."""
        if self._monitor is not None:
            self._monitor.remove()

    def _observing(self) -> ActivityMonitor:
        if self._monitor is None:
            raise ValueError(f"this {type(self).__name__} observes no model yet; give it to a SynapticPruner")
        return self._monitor

    def _end_window(self, synapses: Synapses) -> None:
        means = self._observing().end_window()
        warn_unobserved(synapses, means, f"in a window of {self._steps} steps")
        for place, (layer, mean) in enumerate(zip(synapses.layers, means, strict=True)):
            if mean is not None:
                used = _alive_usage(layer, mean)
                total = float(used.sum())
                if not isfinite(total):
                    raise ValueError(f"{layer.name} has a weight that is not finite; lower the learning rate")
                self._activity[place] = mean
                state = self._states[place] = self._states[place].to(layer.alive.device)
                self.update_state(layer, used, total / max(1, layer.count), state, self._windows)
        self._steps = 0
        self._windows += 1

    def _apply_floors(self, layer: PrunableParameter, mean: Tensor, marked: Tensor) -> Tensor:
        """Return the mask without the marked connections, as far as the floors allow."""
        marked = marked.to(layer.alive.device) & layer.alive
        count = int(marked.count_nonzero())
        if not count:
            return layer.alive
        least = min(layer.alive.numel() - int(self.max_layer_sparsity * layer.alive.numel()), layer.count)
        kept = layer.alive ^ marked
        emptied = _has_input(layer, layer.alive) & ~_has_input(layer, kept)
        if layer.count - count >= least and not bool(emptied.any()):  # mostly so, and then no usage is needed
            return kept
        used = _alive_usage(layer, mean)
        pruned = marked.reshape(-1).index_fill(0, _most_used_of_units(layer, emptied, used), False).view_as(marked)
        excess = least - (layer.count - int(pruned.count_nonzero()))
        if excess > 0:
            spared = smallest_k([LazyScores.of(-used, layer.name, pruned.reshape(-1))], excess)[0]
            pruned = pruned & ~spared.view_as(pruned)
        return layer.alive & ~pruned


def _alive_usage(layer: PrunableParameter, mean: Tensor) -> Tensor:
    used = usage(layer.parameter, mean)
    return used if layer.count == used.numel() else used.mul_(layer.alive.view(torch.uint8))


def _has_input(layer: PrunableParameter, mask: Tensor) -> Tensor:
    """Return for every output unit whether a connection of the mask leads to it."""
    return _by_unit(layer, mask).view(torch.uint8).amax(1).view(torch.bool)  # any() of bools is slow on a CPU


def _most_used_of_units(layer: PrunableParameter, units: Tensor, used: Tensor) -> Tensor:
    """Return the flat position of the most used alive connection of each of these output units."""
    places = _by_unit(layer, torch.arange(used.numel(), device=used.device).view_as(used))[units]
    # An alive connection may have usage 0 like the pruned ones, and must win over them.
    best = _by_unit(layer, used.masked_fill(~layer.alive, -1))[units].argmax(1, keepdim=True)
    return places.gather(1, best).reshape(-1)


def _by_unit(layer: PrunableParameter, entries: Tensor) -> Tensor:
    """Return the entries of a parameter in shape (output units, entries of one)."""
    rows = layer.rows(entries)
    units = rows.shape[0] // layer.num_gates
    return rows.reshape(layer.num_gates, units, -1).transpose(0, 1).reshape(units, -1)
