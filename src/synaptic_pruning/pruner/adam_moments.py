"""Spare Adam the square roots of zeros, which are slow on a CPU.

What Adam remembers of a dead weight is zero, and at every step it takes the root of all second moments. MKL, behind
PyTorch's CPU kernels, takes ten times longer for a zero than for another number, so that the step of a pruned network
would last longer than that of a dense one: twice as long for large layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.sharding import local

_WORTH = 1 << 10  # dead weights of a layer from which on their roots cost more than what is done here
_EPSILON = 1e-9  # beside it the root of `least` is nothing, even in Adam's first steps
LIFT_EVERY = 16  # steps, in which β₂ of 0.85 and more lets no moment fade below the normal numbers
_DTYPES = (torch.float32, torch.float64)


class Roots:
    """Keeps the second moments of dead weights at a very small number between events.

    The step of a dead weight is then 0 / (next to nothing + ε), still 0. A living weight's moment below that number
    is raised to it as well, and stays so: no step can tell, for beside ε its root is nothing. Those of dead weights are
    exactly zero after an event in which weights died, in what the optimizer saves and when training is over.

    Args:
        layers: The layers; call `refresh` after their masks have changed.
        optimizer: What trains them; any but plain Adam and AdamW is left alone.
    """

    def __init__(self, layers: Sequence[Layer], optimizer: torch.optim.Optimizer) -> None:
        self._layers = layers
        self._optimizer = optimizer
        mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        plain = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        # The fused kernels take roots of their own, and AMSGrad would remember the largest moments.
        others = ("fused", "differentiable", "amsgrad")
        self._matter = (
            mkl
            and plain
            and not any(group[name] for group in optimizer.param_groups for name in others)
            and all(group["eps"] >= _EPSILON for group in optimizer.param_groups)
        )
        self._missing = False
        self.refresh()

    def refresh(self) -> None:
        """Take up new masks."""
        self._large = [
            (layer, layer.gate)
            for layer in self._layers
            if self._matter and layer.gate is not None and layer.size - layer.count >= _WORTH
            if layer.parameter.dtype in _DTYPES and layer.gate.is_cpu
        ]
        self._state: object = None  # the optimizer's, where the moments were found
        self._moments: list[Tensor] = []
        self._least: list[float] = []
        self._bits: list[Tensor] = []
        self._gates: list[Tensor] = []
        self._lifted = False

    def lift(self) -> None:
        """Raise them; call it before the step after an event and before every `LIFT_EVERY`-th.

        At no other, so that a run that was resumed there remembers the same of its living weights.
        """
        if not self._large:
            return
        if self._state is not self._optimizer.state or self._missing:
            self._find()
        if self._moments:
            torch._foreach_clamp_min_(self._moments, self._least)
            self._lifted = True

    def lower(self) -> None:
        """Make those of dead weights zero again."""
        if self._lifted:
            if self._state is not self._optimizer.state:
                self._find()
            torch._foreach_mul_(self._bits, self._gates)
            self._lifted = False

    def _find(self) -> None:
        """Look for the moments, which are there after a first step and are others once a checkpoint was loaded."""
        self._state, self._missing = self._optimizer.state, False
        self._moments, self._least, self._bits, self._gates = [], [], [], []
        for layer, gate in self._large:
            state = self._optimizer.state.get(layer.parameter, {})
            moment = state.get("exp_avg_sq")
            self._missing |= moment is None
            if moment is None or "max_exp_avg_sq" in state:
                continue
            moment = local(moment)
            if moment.is_cpu and moment.dtype is layer.parameter.dtype:
                self._moments.append(moment)
                self._least.append(least(moment.dtype))
                self._bits.append(moment.view(gate.dtype))
                self._gates.append(gate)


def least(dtype: torch.dtype) -> float:
    """Return what moments are raised to: small, but normal until raised again, for others are as slow as zero."""
    return 16 * torch.finfo(dtype).tiny
