"""Removing hidden units from RNN, LSTM and GRU layers, every layer and direction on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from synaptic_pruning.export.shrinking.layers import Shrinkable
from synaptic_pruning.export.shrinking.unit_graph import Units

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_CANDIDATE = {"LSTM": 2, "GRU": 2, "RNN_TANH": 0, "RNN_RELU": 0}  # the gate whose silence keeps a unit at 0


class RecurrentStack(nn.Module):
    """RNN, LSTM or GRU layers of different widths, one module for each layer and direction.

    Called as the layer it stands for, without an initial state. The final state comes back as tuples, one
    (batch, units) tensor for each layer and direction, since their widths differ.
    """

    def __init__(self, layers: list[list[nn.RNNBase]], batch_first: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList(directions) for directions in layers)
        self.batch_first = batch_first

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, Any]:
        """Outputs of the last layer, and the final states."""
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
class _Cell:
    """One layer in one direction; `hidden` are its units, `outer` those it hands on."""

    inputs: Tensor
    constants: Tensor
    hidden: Tensor
    outer: Tensor
    weights: dict[str, Tensor]
    silent: Tensor
    outer_silent: Tensor


class ShrinkableRecurrent(Shrinkable):
    """All layers and directions of an RNN, LSTM or GRU, started from a zero state."""

    def __init__(self, name: str, layer: nn.RNNBase, inputs: Tensor, constants: Tensor, units: Units) -> None:
        super().__init__(name)
        self.layer, self.gates = layer, GATES[layer.mode]
        self.cells: list[_Cell] = []
        directions = 2 if layer.bidirectional else 1
        for index in range(layer.num_layers):
            if index:
                below = self.cells[-directions:]
                inputs = torch.cat([cell.outer for cell in below])
                constants = torch.cat([torch.where(c.outer_silent, 0.0, torch.nan).double() for c in below])
            for suffix in ("", "_reverse")[:directions]:
                self.cells.append(self._cell(f"l{index}{suffix}", inputs, constants, units))
        self.outputs = torch.cat([cell.outer for cell in self.cells[-directions:]])
        silent = torch.cat([cell.outer_silent for cell in self.cells[-directions:]])
        self.constants = torch.where(silent, 0.0, torch.nan).double()
        self.last = self.cells[-1]  # its final state is what `h[-1]` gives

    def _cell(self, suffix: str, inputs: Tensor, constants: Tensor, units: Units) -> _Cell:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        found = {n: getattr(self.layer, f"{n}_{suffix}", None) for n in names}
        weights = {n: w.detach().double() for n, w in found.items() if w is not None}
        hidden = units.new(self.layer.hidden_size)
        outer = units.new(self.layer.proj_size) if self.layer.proj_size else hidden
        silent, outer_silent = self._silent(weights, constants)
        return _Cell(inputs, constants, hidden, outer, weights, silent, outer_silent)

    def _silent(self, weights: dict[str, Tensor], constants: Tensor) -> tuple[Tensor, Tensor]:
        """Units that stay exactly 0 from a zero state: their candidate gate hears nothing but units that stay
        0.

        Suppose all do, drop those that hear something, repeat: what is left is true at step 0 and, by
        induction, always.
        """
        size = self.layer.hidden_size
        gate = slice(_CANDIDATE[self.layer.mode] * size, (_CANDIDATE[self.layer.mode] + 1) * size)
        inner, recurrent = weights["weight_ih"][gate], weights["weight_hh"][gate]
        zeros = torch.zeros(size).double()
        b_in, b_hid = (weights[k][gate] if k in weights else zeros for k in ("bias_ih", "bias_hh"))
        heard = (inner != 0)[:, constants.isnan()].any(1)
        start = inner @ constants.nan_to_num(0) + b_in
        if self.layer.mode == "GRU":  # the reset gate scales the recurrent part by an unknown factor
            quiet = (start == 0) & (b_hid == 0)
        elif self.layer.mode == "RNN_RELU":
            quiet = start + b_hid <= 0
        else:
            quiet = start + b_hid == 0
        silent = quiet & ~heard
        while True:
            outer = silent
            if "weight_hr" in weights:
                outer = ~(weights["weight_hr"] != 0)[:, ~silent].any(1)
            left = silent & ~(recurrent != 0)[:, ~outer].any(1)
            if bool((left == silent).all()):
                return silent, outer
            silent = left

    def settle(self, units: Units) -> None:
        """As for every layer, cells included."""
        super().settle(units)
        for cell in self.cells:
            for key in ("inputs", "hidden", "outer"):
                setattr(cell, key, units.roots(getattr(cell, key)))

    def reads(self, live: Tensor) -> Tensor:
        """Inputs and units below with a weight into a gate of a live unit."""
        found = []
        for cell in self.cells:
            rows = live[cell.hidden].repeat(self.gates)
            if "weight_hr" in cell.weights:
                projected = (cell.weights["weight_hr"][live[cell.outer]] != 0).any(0)
                found.append(cell.hidden[projected & ~cell.silent])
            recurrent = (cell.weights["weight_hh"][rows] != 0).any(0)
            found.append(cell.outer[recurrent & ~cell.outer_silent])
            found.append(cell.inputs[(cell.weights["weight_ih"][rows] != 0).any(0) & cell.constants.isnan()])
        return torch.cat(found)

    def groups(self) -> list[Tensor]:
        """The units of each cell; none may lose all."""
        projected = [cell.outer for cell in self.cells] if self.layer.proj_size else []
        return [cell.hidden for cell in self.cells] + projected

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """One layer of the same class if all cells keep equally many units, a stack otherwise."""
        if all(bool(live[g].all()) for g in self.groups()) and bool(live[self.cells[0].inputs].all()):
            return None
        directions = 2 if self.layer.bidirectional else 1
        small = [self._smaller(cell, live) for cell in self.cells]
        if len(small) == 1:
            return small[0]
        stack = [small[i : i + directions] for i in range(0, len(small), directions)]
        return RecurrentStack(stack, self.layer.batch_first)

    def _smaller(self, cell: _Cell, live: Tensor) -> nn.RNNBase:
        hidden, outer, inputs = live[cell.hidden], live[cell.outer], live[cell.inputs]
        if "weight_hr" in cell.weights:  # PyTorch wants more hidden units than projected ones
            missing = int(outer.sum()) + 1 - int(hidden.sum())
            hidden[(~hidden).nonzero().flatten()[: max(0, missing)]] = True
        rows = hidden.repeat(self.gates)
        weights = dict(cell.weights)
        folded = weights["weight_ih"] @ torch.where(inputs, 0.0, cell.constants.nan_to_num(0))
        if "bias_ih" in weights or bool(folded[rows].any()):
            weights["bias_ih"] = (weights.get("bias_ih", torch.zeros_like(folded)) + folded)[rows]
            weights["bias_hh"] = weights.get("bias_hh", torch.zeros_like(folded))[rows]
        weights["weight_ih"] = weights["weight_ih"][rows][:, inputs]
        weights["weight_hh"] = weights["weight_hh"][rows][:, outer]
        extra: dict[str, Any] = {}
        if "weight_hr" in weights:
            weights["weight_hr"] = weights["weight_hr"][outer][:, hidden]
            extra["proj_size"] = int(outer.sum())
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

    def sizes(self, live: Tensor) -> tuple[int, int]:
        """Hidden units over all layers and directions, before and after."""
        units = torch.cat([cell.hidden for cell in self.cells])
        return units.numel(), int(live[units].sum())
