"""Rebuild RNN, LSTM and GRU without pruned hidden units, every layer and direction on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from synaptic_pruning.export.shrinking.layers import Shrinkable
from synaptic_pruning.export.shrinking.unit_graph import UnitGraph

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_CANDIDATE = {"LSTM": 2, "GRU": 2, "RNN_TANH": 0, "RNN_RELU": 0}  # index of the gate that holds a unit at 0 if it is 0


class RecurrentStack(nn.Module):
    """RNN, LSTM or GRU layers of different widths, one module for each layer and direction.

    The call is that of the original layer, without an initial state. The final state is returned as tuples of
    tensors (batch, units), one for each layer and direction. Their widths differ.

    Args:
        layers: The modules of each layer: one, or forward and backward.
        batch_first: Whether the input is (batch, time, features) instead of (time, batch, features).
    """

    def __init__(self, layers: list[list[nn.RNNBase]], batch_first: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList(directions) for directions in layers)
        self.batch_first = batch_first

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, Any]:
        """Return outputs of the last layer, and the final states.

        Raises:
            ValueError: An initial state is given.
        """
        if state is not None:
            raise ValueError("state must be None: the units of a shrunk recurrent layer are not those of the original")
        time = 1 if self.batch_first and x.dim() == 3 else 0
        states: list[Any] = []
        for directions in self.layers:
            outputs = []
            for index, layer in enumerate(cast(nn.ModuleList, directions)):
                y, last = layer(x.flip(time) if index else x)
                outputs.append(y.flip(time) if index else y)
                states.append(last)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        if isinstance(states[0], tuple):
            return x, (tuple(h[-1] for h, _ in states), tuple(c[-1] for _, c in states))
        return x, tuple(h[-1] for h in states)


@dataclass
class _Direction:
    """One layer in one direction.

    Attributes:
        inputs: The unit of each input feature.
        constants: Constant value of each input feature, NaN where it varies.
        hidden: The hidden units.
        outputs: The units of the output: the projected ones, or the hidden ones without projection.
        weights: Weights and biases by name, without layer suffix, float64.
        hidden_zero: Mask of the hidden units that stay 0.
        outputs_zero: Mask of the output units that stay 0.
    """

    inputs: Tensor
    constants: Tensor
    hidden: Tensor
    outputs: Tensor
    weights: dict[str, Tensor]
    hidden_zero: Tensor
    outputs_zero: Tensor


class ShrinkableRecurrent(Shrinkable):
    """All layers and directions of an RNN, LSTM or GRU, started from a zero state.

    Args:
        name: The module's name in the model.
        layer: The module.
        inputs: The unit of each input feature.
        constants: Constant value of each input feature, NaN where it varies.
        units: The graph to take new units from.
    """

    def __init__(self, name: str, layer: nn.RNNBase, inputs: Tensor, constants: Tensor, units: UnitGraph) -> None:
        super().__init__(name)
        self.layer, self.gates = layer, _GATES[layer.mode]
        self.parts: list[_Direction] = []
        directions = 2 if layer.bidirectional else 1
        for index in range(layer.num_layers):
            if index:
                below = self.parts[-directions:]
                inputs = torch.cat([part.outputs for part in below])
                constants = torch.cat([_zero_or_unknown(part.outputs_zero) for part in below])
            for suffix in ("", "_reverse")[:directions]:
                self.parts.append(self._direction(f"l{index}{suffix}", inputs, constants, units))
        self.outputs = torch.cat([part.outputs for part in self.parts[-directions:]])
        self.constants = torch.cat([_zero_or_unknown(part.outputs_zero) for part in self.parts[-directions:]])

    def _direction(self, suffix: str, inputs: Tensor, constants: Tensor, units: UnitGraph) -> _Direction:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        found = {n: getattr(self.layer, f"{n}_{suffix}", None) for n in names}
        weights = {n: w.detach().double() for n, w in found.items() if w is not None}
        hidden = units.new(self.layer.hidden_size)
        outputs = units.new(self.layer.proj_size) if self.layer.proj_size else hidden
        return _Direction(inputs, constants, hidden, outputs, weights, *self._always_zero(weights, constants))

    def _always_zero(self, weights: dict[str, Tensor], constants: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks of the hidden and output units that stay exactly 0 from a zero state.

        The candidate gate of such a unit reads nothing but units that stay 0. Suppose all units stay 0, drop those
        that read another, and repeat. What is left holds at step 0 and, by induction, at every step.
        """
        size = self.layer.hidden_size
        gate = slice(_CANDIDATE[self.layer.mode] * size, (_CANDIDATE[self.layer.mode] + 1) * size)
        inner, recurrent = weights["weight_ih"][gate], weights["weight_hh"][gate]
        zeros = torch.zeros(size).double()
        b_in, b_hid = (weights[k][gate] if k in weights else zeros for k in ("bias_ih", "bias_hh"))
        varies = (inner != 0)[:, constants.isnan()].any(1)
        start = inner @ constants.nan_to_num(0) + b_in
        if self.layer.mode == "GRU":  # the reset gate scales the recurrent part by an unknown factor
            starts_zero = (start == 0) & (b_hid == 0)
        elif self.layer.mode == "RNN_RELU":
            starts_zero = start + b_hid <= 0
        else:
            starts_zero = start + b_hid == 0
        hidden = starts_zero & ~varies
        while True:
            outputs = hidden
            if "weight_hr" in weights:
                outputs = ~(weights["weight_hr"] != 0)[:, ~hidden].any(1)
            left = hidden & ~(recurrent != 0)[:, ~outputs].any(1)
            if bool((left == hidden).all()):
                return hidden, outputs
            hidden = left

    def resolve_units(self, units: UnitGraph) -> None:
        """Resolve the units of every layer and direction."""
        super().resolve_units(units)
        for part in self.parts:
            for key in ("inputs", "hidden", "outputs"):
                setattr(part, key, units.find_all(getattr(part, key)))

    def reads(self, alive: Tensor) -> Tensor:
        """Return inputs and units with a non-zero weight into a gate of an alive unit."""
        found = []
        for part in self.parts:
            rows = alive[part.hidden].repeat(self.gates)
            if "weight_hr" in part.weights:
                projected = (part.weights["weight_hr"][alive[part.outputs]] != 0).any(0)
                found.append(part.hidden[projected & ~part.hidden_zero])
            recurrent = (part.weights["weight_hh"][rows] != 0).any(0)
            found.append(part.outputs[recurrent & ~part.outputs_zero])
            found.append(part.inputs[(part.weights["weight_ih"][rows] != 0).any(0) & part.constants.isnan()])
        return torch.cat(found)

    def groups(self) -> list[Tensor]:
        """Return the units of each layer and direction; at least one of each must stay."""
        projected = [part.outputs for part in self.parts] if self.layer.proj_size else []
        return [part.hidden for part in self.parts] + projected

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Return one layer of the same class if there is one layer and direction, a stack otherwise."""
        if all(bool(alive[g].all()) for g in self.groups()) and bool(alive[self.parts[0].inputs].all()):
            return None
        directions = 2 if self.layer.bidirectional else 1
        small = [self._smaller(part, alive) for part in self.parts]
        if len(small) == 1:
            return small[0]
        stack = [small[i : i + directions] for i in range(0, len(small), directions)]
        return RecurrentStack(stack, self.layer.batch_first)

    def _smaller(self, part: _Direction, alive: Tensor) -> nn.RNNBase:
        hidden, outputs, inputs = alive[part.hidden], alive[part.outputs], alive[part.inputs]
        if "weight_hr" in part.weights:  # PyTorch wants more hidden units than projected ones
            missing = int(outputs.sum()) + 1 - int(hidden.sum())
            hidden[(~hidden).nonzero().flatten()[: max(0, missing)]] = True
        rows = hidden.repeat(self.gates)
        weights = dict(part.weights)
        folded = weights["weight_ih"] @ torch.where(inputs, 0.0, part.constants.nan_to_num(0))
        if "bias_ih" in weights or bool(folded[rows].any()):
            weights["bias_ih"] = (weights.get("bias_ih", torch.zeros_like(folded)) + folded)[rows]
            weights["bias_hh"] = weights.get("bias_hh", torch.zeros_like(folded))[rows]
        weights["weight_ih"] = weights["weight_ih"][rows][:, inputs]
        weights["weight_hh"] = weights["weight_hh"][rows][:, outputs]
        extra: dict[str, Any] = {}
        if "weight_hr" in weights:
            weights["weight_hr"] = weights["weight_hr"][outputs][:, hidden]
            extra["proj_size"] = int(outputs.sum())
        if self.layer.mode.startswith("RNN"):
            extra["nonlinearity"] = self.layer.mode.removeprefix("RNN_").lower()
        make = cast(Callable[..., nn.RNNBase], type(self.layer))
        layer = make(
            int(inputs.sum()),
            int(hidden.sum()),
            bias="bias_ih" in weights,
            batch_first=self.layer.batch_first,
            dtype=self.layer.weight_ih_l0.dtype,
            **extra,
        )
        with torch.no_grad():
            for key, value in weights.items():
                getattr(layer, f"{key}_l0").copy_(value)
        return layer.requires_grad_(False).eval()

    def sizes(self, alive: Tensor) -> tuple[int, int]:
        """Return the number of hidden units over all layers and directions, before and after."""
        units = torch.cat([part.hidden for part in self.parts])
        return units.numel(), int(alive[units].sum())


def _zero_or_unknown(zero: Tensor) -> Tensor:
    """Return constants (float64): 0 where the mask is True, NaN elsewhere."""
    return torch.where(zero, 0.0, torch.nan).double()
