"""What rules that judge connections by their use have in common: windows of observation, floors, memory."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from synaptic_pruning.core.activity.monitor import Activity, usage
from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.synapses import Synapses
from synaptic_pruning.core.topk.lazy_scores import Scores
from synaptic_pruning.core.topk.select import lowest
from synaptic_pruning.rules.base import Rule


@dataclass(kw_only=True)
class ByUsage(Rule):
    """Observe usage |w|·E|x| window by window and remove for good what the judgement of many windows condemns.

    Sparsity is an outcome, not a target. A layer keeps at least ``1 − max_layer_sparsity`` of its weights and each of
    its output units at least one; where that floor bites, the most used ones stay.

    Args:
        window: Optimizer steps of an observation window, at least 1; by default a window ends at every event.
        end: Training progress in (0, 1] from which nothing dies any more.
        max_layer_sparsity: No layer goes above it, in (0, 1).
        sample: Watch one step in this many, from the first of a window on.

    Raises:
        ValueError: A number outside its range.
    """

    window: int | None = None
    end: float = 0.5
    max_layer_sparsity: float = 0.99
    sample: int = 10
    _activity: Activity | None = field(default=None, init=False, repr=False)
    _memory: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _last: list[Tensor | None] = field(default_factory=list, init=False, repr=False)
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
            raise ValueError(f"sample={self.sample} must be at least 1: watch one step in this many")

    @abstractmethod
    def fresh(self, layer: Layer) -> Tensor:
        """Return what the rule remembers of each connection of a layer before the first window."""

    @abstractmethod
    def judge(self, layer: Layer, used: Tensor, mean: float, memory: Tensor, window: int) -> None:
        """Update the memory in place.

        Args:
            layer: The layer.
            used: Usage of every connection in this window, the parameter's shape; 0 where it is dead. May be changed.
            mean: Its mean over the alive connections.
            memory: What `fresh` made, of the same shape.
            window: How many windows ended before.
        """

    @abstractmethod
    def condemned(self, memory: Tensor) -> Tensor:
        """Return True where the memory says that a connection shall die."""

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Start to watch the model; see `Rule.attach`."""
        if self._activity is not None:
            raise ValueError(f"this {type(self).__name__} already serves another pruner; make a new one")
        self._activity = Activity(model, synapses, self.sample)
        self._memory = [self.fresh(layer) for layer in synapses.layers]
        self._last = [None] * len(synapses.layers)
        return [layer.alive for layer in synapses.layers]

    def observe(self, synapses: Synapses) -> None:
        """Count the step, and end the window when it is full."""
        self._watching().step()
        self._steps += 1
        if self._steps == self.window:
            self._close(synapses)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks without the condemned connections; see `Rule.update`.

        Raises:
            ValueError: A weight is not finite; its parameter is named.
        """
        if self.window is None:
            self._close(synapses)
        if progress >= self.end:
            self._watching().rest()
        return [
            layer.alive if last is None else self._survivors(layer, last, self.condemned(memory))
            for layer, last, memory in zip(synapses.layers, self._last, self._memory, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return memory, the unfinished window and the last one's activity."""
        return {
            "activity": self._watching().state_dict(),
            "memory": [memory.clone() for memory in self._memory],
            "last": list(self._last),
            "steps": self._steps,
            "windows": self._windows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._watching().load_state_dict(state["activity"])
        for mine, theirs in zip(self._memory, state["memory"], strict=True):
            mine.copy_(theirs)
        self._last = list(state["last"])
        self._steps, self._windows = state["steps"], state["windows"]

    def detach(self) -> None:
        """Stop watching; what was remembered stays readable."""
        self._watching().remove()

    def _watching(self) -> Activity:
        if self._activity is None:
            raise ValueError(f"this {type(self).__name__} watches no model yet; give it to a SynapticPruner")
        return self._activity

    def _close(self, synapses: Synapses) -> None:
        means = self._watching().close()
        unseen = [layer.name for layer, mean in zip(synapses.layers, means, strict=True) if mean is None]
        if unseen:
            warnings.warn(
                f"{unseen[0]} saw no finite input in a window of {self._steps} steps and is left as it is; call the "
                "layer itself in training mode, attach the pruner before the first call of a compiled model, or "
                "leave it out with exclude=",
                stacklevel=2,
            )
        for place, (layer, mean) in enumerate(zip(synapses.layers, means, strict=True)):
            if mean is not None:
                used = _used(layer, mean)
                total = float(used.sum())
                if not isfinite(total):
                    raise ValueError(f"{layer.name} has a weight that is not finite; lower the learning rate")
                self._last[place] = mean
                memory = self._memory[place] = self._memory[place].to(layer.alive.device)
                self.judge(layer, used, total / max(1, layer.count), memory, self._windows)
        self._steps = 0
        self._windows += 1

    def _survivors(self, layer: Layer, mean: Tensor, condemned: Tensor) -> Tensor:
        """Take the condemned away as far as the floors allow."""
        condemned = condemned.to(layer.alive.device) & layer.alive
        count = int(condemned.count_nonzero())
        if not count:
            return layer.alive
        least = min(layer.alive.numel() - int(self.max_layer_sparsity * layer.alive.numel()), layer.count)
        kept = layer.alive ^ condemned
        doomed = _reached(layer, layer.alive) & ~_reached(layer, kept)
        if layer.count - count >= least and not bool(doomed.any()):  # mostly so, and then no usage is needed
            return kept
        used = _used(layer, mean)
        dying = condemned.reshape(-1).index_fill(0, _best_of_units(layer, doomed, used), False).view_as(condemned)
        excess = least - (layer.count - int(dying.count_nonzero()))
        if excess > 0:
            saved = lowest([Scores.of(-used, layer.name, dying.reshape(-1))], excess)[0]
            dying = dying & ~saved.view_as(dying)
        return layer.alive & ~dying


def _used(layer: Layer, mean: Tensor) -> Tensor:
    used = usage(layer.parameter, mean)
    return used if layer.count == used.numel() else used.mul_(layer.alive.view(torch.uint8))


def _reached(layer: Layer, mask: Tensor) -> Tensor:
    """Tell of every output unit whether a connection of the mask leads to it."""
    return _by_unit(layer, mask).view(torch.uint8).amax(1).view(torch.bool)  # bytes: many times faster than any()


def _best_of_units(layer: Layer, units: Tensor, used: Tensor) -> Tensor:
    """Return the flat position of the most used alive connection of each of these output units."""
    places = _by_unit(layer, torch.arange(used.numel(), device=used.device).view_as(used))[units]
    # An alive connection may have usage 0 like the dead ones, and must win over them.
    best = _by_unit(layer, used.masked_fill(~layer.alive, -1))[units].argmax(1, keepdim=True)
    return places.gather(1, best).reshape(-1)


def _by_unit(layer: Layer, entries: Tensor) -> Tensor:
    """Bring the entries of a parameter to shape (output units, entries of one)."""
    if layer.transposed:
        grouped = entries.reshape(layer.transposed, -1, *entries.shape[1:]).transpose(1, 2)
        return grouped.reshape(layer.transposed * entries.shape[1], -1)
    units = entries.shape[0] // layer.gates
    return entries.reshape(layer.gates, units, -1).transpose(0, 1).reshape(units, -1)
