"""Enforce the masks: zero pruned weights after each step and their gradients at backward, all in one call."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from synaptic_pruning.core import PrunableParameter, count_true, local, nonzero_pruned, to_integers, zero_pruned_

_SMALL = 1 << 20
"""Weights up to which a GPU holds the integer mask too: it saves the start of a kernel; a large one costs memory."""


class MaskEnforcer:
    """Zeroes what belongs to the pruned weights of some parameters: weights, gradients, optimizer state.

    All parameters go in one call, on their bits read as integers times 0 or 1. A small network spends so little time
    on a step that a few Python calls a parameter would show. The integers are made from ``alive``, the one true mask.

    Args:
        layers: The prunable parameters; call `refresh` after their masks have changed.
    """

    def __init__(self, layers: Sequence[PrunableParameter]) -> None:
        self._layers = layers
        self._integers: dict[PrunableParameter, Tensor] = {}
        self._gradient_hooks: dict[PrunableParameter, tuple[_GradientMask, RemovableHandle]] = {}
        self._masked: set[_GradientMask] = set()
        self._at_backward = False
        self.refresh()

    def refresh(self) -> None:
        """Take up the present masks."""
        self._sparse = [layer for layer in self._layers if layer.count < layer.size]
        self._integers = {layer: mask for layer in self._sparse if (mask := self._integer_mask(layer)) is not None}
        self._together = [layer for layer in self._sparse if self._fits(layer)]
        self._alone = [layer for layer in self._sparse if not self._fits(layer)]
        self._addresses: list[int] = []
        self._bits: list[Tensor] = []
        self._masks = [self._integers[layer] for layer in self._together]
        if self._at_backward:
            self._set_gradient_hooks(self._sparse)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Set every pruned weight to exactly zero, in place."""
        if self._together:
            addresses = [layer.weight.data_ptr() for layer in self._together]
            if addresses != self._addresses:  # for the first time, or the weights were moved since
                self._find_weights()
            zero_pruned_(self._bits, self._masks)
        for layer in self._alone:
            self.zero_pruned_(layer, layer.parameter)

    @torch.no_grad()
    def find_nonzero(self) -> dict[str, int]:
        """Count the pruned weights that are not zero by parameter, where there are any; of shards, those here."""
        counts = count_true([nonzero_pruned(layer.weight, layer.alive) for layer in self._sparse])
        return {layer.name: count for layer, count in zip(self._sparse, counts, strict=True) if count}

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradient of every pruned weight to zero, so that no optimizer learns from it."""
        for layer in self._sparse:
            if layer.parameter.grad is not None:
                self.zero_pruned_(layer, layer.parameter.grad)

    def mask_remaining_gradients(self) -> None:
        """Mask all gradients unless each was masked at backward since the last call."""
        if len(self._masked) < len(self._sparse):
            self.mask_gradients()
        self._masked.clear()

    def zero_pruned_(self, layer: PrunableParameter, tensor: Tensor, zero: int = 0) -> None:
        """Zero the pruned entries of a tensor that has a parameter's shape, in place, under ``torch.no_grad()``.

        Args:
            layer: The parameter.
            tensor: Its weight, its gradient or what an optimizer keeps of it; of a sharded one, this rank's part too.
            zero: What stands for zero, in a tensor of quantised codes.
        """
        if layer.count == layer.size:
            return
        tensor, mask = local(tensor), self._integers.get(layer)
        if mask is not None and tensor.device == mask.device and tensor.dtype is layer.parameter.dtype:
            zero_pruned_([tensor], [mask])
        else:
            zero_pruned_([tensor], [layer.alive], zero)

    def start_at_backward(self) -> None:
        """Mask gradients as soon as backward has made them, so that clipping and the like see none of pruned weights.

        Not those of sharded parameters, which come about otherwise, nor those that ``torch.autograd.grad`` returns. A
        gradient that is not finite stays so.
        """
        if not self._at_backward:
            self._at_backward = True
            self._set_gradient_hooks(self._sparse)

    def stop_at_backward(self) -> None:
        """Leave gradients as backward makes them."""
        self._at_backward = False
        self._set_gradient_hooks([])

    def _integer_mask(self, layer: PrunableParameter) -> Tensor | None:
        if not (layer.alive.is_cpu or (layer.alive.is_cuda and layer.size <= _SMALL)):
            return None
        last = self._integers.get(layer)
        if last is None or last.device != layer.alive.device or last.element_size() != layer.parameter.element_size():
            return to_integers(layer.alive, layer.parameter.dtype)
        return last.copy_(layer.alive)  # no new memory at every event

    def _fits(self, layer: PrunableParameter) -> bool:
        """Return whether the integer mask is where the weights are."""
        return layer in self._integers and self._integers[layer].device == layer.parameter.device

    @torch.no_grad()
    def _find_weights(self) -> None:
        if not all(self._fits(layer) for layer in self._together):
            self.refresh()
        self._addresses = [layer.weight.data_ptr() for layer in self._together]
        self._bits = [layer.weight.view(mask.dtype) for layer, mask in zip(self._together, self._masks, strict=True)]

    def _set_gradient_hooks(self, layers: Sequence[PrunableParameter]) -> None:
        """Have the gradients of exactly these layers masked at backward, keeping the hooks that are there."""
        wanted = [layer for layer in layers if layer.shard is None and layer.parameter.requires_grad]
        for layer in [layer for layer in self._gradient_hooks if layer not in wanted]:
            self._gradient_hooks.pop(layer)[1].remove()
        for layer in wanted:
            if layer in self._gradient_hooks:
                self._gradient_hooks[layer][0].set_mask(layer.alive)
            else:
                mask = _GradientMask(layer.alive.to(_factor_dtype(layer.parameter), copy=True), self._masked)
                # After accumulation the gradient is the parameter's own, so that it can be changed in place.
                hook = layer.parameter.register_post_accumulate_grad_hook(mask)  # type: ignore[no-untyped-call]
                self._gradient_hooks[layer] = mask, hook


class _GradientMask:
    """Multiplies the gradient of a parameter by its mask and notes it.

    A product, not `zero_pruned_`: infinity and NaN must stay, or mixed precision would miss an overflow.
    """

    def __init__(self, mask: Tensor, masked: "set[_GradientMask]") -> None:
        self._mask, self._masked = mask, masked

    def set_mask(self, mask: Tensor) -> None:
        """Take another mask into the memory of the last one."""
        self._mask = self._mask.to(mask.device).copy_(mask)

    def __call__(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if self._mask.device != gradient.device:  # the network was moved since
            self._mask = self._mask.to(gradient.device, _factor_dtype(gradient))
        gradient.mul_(self._mask)
        self._masked.add(self)


def _factor_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of a mask that multiplies a tensor: on a CPU a product with bool converts the mask each time."""
    return tensor.dtype if tensor.is_cpu else torch.bool
