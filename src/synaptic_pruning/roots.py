"""Spare Adam the square roots of zeros, which are slow on a CPU.

What Adam remembers of a dead weight is zero, and at every step it takes the root of all second moments. MKL, behind
PyTorch's CPU kernels, takes ten times longer for a zero than for another number, so that the step of a pruned network
would last longer than that of a dense one: twice as long for large layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from synaptic_pruning.layers import Layer
from synaptic_pruning.shards import local

_WORTH = 1 << 12  # dead weights of a layer from which on their roots cost more than what is done here
_ONE = {torch.float32: 0x3F800000, torch.float64: 0x3FF0000000000000}  # the bits of 1.0


class Roots:
    """Makes the second moments of dead weights one while a step is under way.

    The step of a dead weight is then 0 / (1 + ε) in place of 0 / (0 + ε), and no other weight has to do with it.

    Args:
        layers: The layers; call `refresh` after their masks have changed.
        optimizer: What trains them; any but plain Adam and AdamW is left alone.
    """

    def __init__(self, layers: Sequence[Layer], optimizer: torch.optim.Optimizer) -> None:
        self._layers = layers
        self._optimizer = optimizer
        mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        plain = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        # The fused kernels take roots of their own.
        self.matter = mkl and plain and not any(g["fused"] or g["differentiable"] for g in optimizer.param_groups)
        self._lifted: list[Tensor] = []
        self._gates: list[Tensor] = []
        self._views: dict[Layer, tuple[Tensor, Tensor]] = {}  # moments and their bits
        self.refresh()

    def refresh(self) -> None:
        """Take up new masks."""
        self._large: list[tuple[Layer, Tensor, Tensor]] = [
            (layer, layer.gate, (1 - layer.gate).mul_(_ONE[layer.parameter.dtype]))
            for layer in self._layers
            if self.matter and layer.gate is not None and layer.size - layer.count >= _WORTH
            if layer.parameter.dtype in _ONE and layer.gate.is_cpu
        ]

    def lift(self) -> None:
        """Make them one; call it before a step."""
        self._lifted, self._gates = [], []
        for layer, gate, ones in self._large:
            bits = self._bits(layer)
            if bits is not None:
                bits.bitwise_or_(ones)  # all bits of a dead one are 0, and an alive one keeps its own
                self._lifted.append(bits)
                self._gates.append(gate)

    def lower(self) -> None:
        """Make them zero again; call it after the step."""
        if self._lifted:
            torch._foreach_mul_(self._lifted, self._gates)
            self._lifted = []

    def _bits(self, layer: Layer) -> Tensor | None:
        state = self._optimizer.state.get(layer.parameter, {})
        moment = state.get("exp_avg_sq")
        if moment is None or "max_exp_avg_sq" in state:  # AMSGrad would remember the largest of them
            return None
        known, bits = self._views.get(layer, (None, None))
        if known is not moment:
            part = local(moment)
            if not part.is_cpu or part.dtype is not layer.parameter.dtype or layer.gate is None:
                return None
            bits = part.view(layer.gate.dtype)
            self._views[layer] = moment, bits
        return bits
