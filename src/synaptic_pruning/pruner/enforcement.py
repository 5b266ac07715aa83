"""Keep dead weights at exactly zero, and their gradients too, at every step: in as few calls as it takes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from synaptic_pruning.core.parameter import Layer


class Silence:
    """Zeroes what belongs to the dead weights of some layers.

    A small network spends so little time on a step that a few Python calls a layer would show. So all layers go in one
    call, on their bits read as integers times 0 or 1: exact whatever a dead entry holds, infinity and NaN included.

    Args:
        layers: The layers; call `refresh` after their masks have changed.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._at_backward: dict[Layer, tuple[_Factor, RemovableHandle]] = {}
        self._done: set[_Factor] = set()
        self._watching = False
        self.refresh()

    def refresh(self) -> None:
        """Take up new masks."""
        dead = [layer for layer in self._layers if layer.count < layer.size]
        self._fast = [layer for layer in dead if _gate_fits(layer)]
        self._rest = [layer for layer in dead if not _gate_fits(layer)]
        self._gates = [layer.gate for layer in self._fast if layer.gate is not None]
        self._places: list[int] = []
        self._bits: list[Tensor] = []
        if self._watching:
            self._watch(dead)

    def weights(self) -> None:
        """Set every dead weight to exactly zero, in place."""
        if self._fast:
            places = [layer.weight.data_ptr() for layer in self._fast]
            if places != self._places:  # for the first time, or the weights moved since
                self._find()
            if self._bits:
                torch._foreach_mul_(self._bits, self._gates)
        if self._rest:
            with torch.no_grad():
                for layer in self._rest:
                    layer.silence(layer.parameter)

    @torch.no_grad()
    def gradients(self) -> None:
        """Set the gradient of every dead weight to zero, so that no optimizer learns from it."""
        for layer in (*self._fast, *self._rest):
            if layer.parameter.grad is not None:
                layer.silence(layer.parameter.grad)

    def other_gradients(self) -> None:
        """The same for those that were not silenced at backward since the last call, if there are any."""
        if len(self._done) < len(self._fast) + len(self._rest):
            self.gradients()
        self._done.clear()

    def at_backward(self) -> None:
        """Zero these gradients as soon as backward has made them, so that clipping and the like see none of them.

        Not those of sharded parameters, which come about otherwise, nor those that ``torch.autograd.grad`` returns. A
        gradient that is not finite stays so.
        """
        if not self._watching:
            self._watching = True
            self._watch([*self._fast, *self._rest])

    def not_at_backward(self) -> None:
        """Let backward leave them as they are."""
        self._watching = False
        self._watch([])

    @torch.no_grad()
    def _find(self) -> None:
        if not all(_gate_fits(layer) for layer in self._fast):
            self.refresh()
        self._places = [layer.weight.data_ptr() for layer in self._fast]
        self._bits = [layer.weight.view(gate.dtype) for layer, gate in zip(self._fast, self._gates, strict=True)]

    def _watch(self, dead: Sequence[Layer]) -> None:
        """Have the gradients of exactly these layers multiplied by their masks, keeping those that are there."""
        wanted = [layer for layer in dead if layer.shard is None and layer.parameter.requires_grad]
        for layer in [layer for layer in self._at_backward if layer not in wanted]:
            self._at_backward.pop(layer)[1].remove()
        for layer in wanted:
            if layer in self._at_backward:
                self._at_backward[layer][0].take(layer.alive)
            else:
                factor = _Factor(layer.alive.to(_factor_dtype(layer.parameter), copy=True), self._done)
                # After accumulation the gradient is the parameter's own, so that it can be changed in place.
                hook = layer.parameter.register_post_accumulate_grad_hook(factor)  # type: ignore[no-untyped-call]
                self._at_backward[layer] = factor, hook


class _Factor:
    """Multiplies the gradient of a parameter by a mask, and says that it did."""

    def __init__(self, mask: Tensor, done: "set[_Factor]") -> None:
        self._mask, self._done = mask, done

    def take(self, mask: Tensor) -> None:
        """Go on with another mask, in the memory that is there: that is many times faster than fresh one."""
        self._mask = self._mask.to(mask.device).copy_(mask)

    def __call__(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if self._mask.device != gradient.device:  # the network was moved since
            self._mask = self._mask.to(gradient.device, _factor_dtype(gradient))
        gradient.mul_(self._mask)
        self._done.add(self)


def _factor_dtype(tensor: Tensor) -> torch.dtype:
    """Return what a mask should be to multiply a tensor: on a CPU the same dtype is several times faster than bool."""
    return tensor.dtype if tensor.is_cpu else torch.bool


def _gate_fits(layer: Layer) -> bool:
    """Tell whether a layer can go in the one call with others: it lies where its gate is."""
    return layer.gate is not None and layer.gate.device == layer.parameter.device
