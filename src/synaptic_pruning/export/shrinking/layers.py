"""Layers that can be rebuilt smaller: which units each one reads, and the layer without the units that go."""

import copy
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from synaptic_pruning.export.shrinking.unit_graph import Units
from synaptic_pruning.export.unfused import Attention, linear

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class Shrinkable(ABC):
    """One layer of the traced model. Units are numbered by their roots once tracing is over (`settle`)."""

    outputs: Tensor  # the unit each output feature belongs to

    def __init__(self, name: str) -> None:
        self.name = name

    def settle(self, units: Units) -> None:
        """Replace unit numbers by those that stand for them."""
        for key, value in vars(self).items():
            if isinstance(value, Tensor) and value.dtype == torch.long:
                setattr(self, key, units.roots(value))

    def reads(self, live: Tensor) -> Tensor:
        """Units whose value reaches a live output of this layer and can't be folded into its bias."""
        return torch.zeros(0, dtype=torch.long)

    def groups(self) -> list[Tensor]:
        """Sets of units of which at least one has to stay."""
        return [self.outputs]

    def all_units(self) -> list[int]:
        """Every unit of `groups`."""
        return torch.cat(self.groups()).tolist()

    @abstractmethod
    def rebuild(self, live: Tensor) -> nn.Module | None:
        """The layer without dead units; None if nothing goes."""

    def sizes(self, live: Tensor) -> tuple[int, int]:
        """Units before and after."""
        return self.outputs.numel(), int(live[self.outputs].sum())


class ShrinkableLinear(Shrinkable):
    """Linear and ungrouped convolutions: weight (outputs, inputs, *kernel)."""

    def __init__(
        self, name: str, layer: nn.Linear | Convolution, inputs: Tensor, constants: Tensor, units: Units
    ) -> None:
        super().__init__(name)
        self.layer, self.inputs, self.constants = layer, inputs, constants
        self.outputs = units.new(layer.weight.shape[0])
        padded = not isinstance(layer, nn.Linear) and layer.padding not in (
            "valid",
            (0,) * len(layer.kernel_size),
        )
        # Where zeros are padded, a constant input is not constant at the border, unless it is 0 itself.
        self.foldable = constants == 0 if padded else constants.isfinite()

    def output_constants(self) -> Tensor:
        """The constant each output is, NaN where it depends on the input."""
        weight = self._weight().flatten(2) if self.layer.weight.dim() > 2 else self._weight()[:, :, None]
        varies = (weight != 0).any(2)[:, ~self.foldable].any(1)
        known = weight.sum(2) @ self.constants.where(self.foldable, 0) + self._bias()
        return known.where(~varies, torch.nan)

    def reads(self, live: Tensor) -> Tensor:
        """Inputs with a weight into a live output."""
        used = (self.layer.weight.detach()[live[self.outputs]] != 0).any(0)
        return self.inputs[(used.flatten(1).any(1) if used.dim() > 1 else used) & ~self.foldable]

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """Rows and columns of dead units cut, constant inputs folded into the bias."""
        rows, columns = live[self.outputs], live[self.inputs]
        if bool(rows.all()) and bool(columns.all()):
            return None
        weight = self._weight()
        gone = self.constants.where(self.foldable & ~columns, 0)
        folded = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
        bias: Tensor | None = (self._bias() + folded @ gone)[rows].to(self.layer.weight.dtype)
        if self.layer.bias is None and not cast(Tensor, bias).any():
            bias = None
        return resized(self.layer, self.layer.weight.detach()[rows][:, columns], bias)

    def _weight(self) -> Tensor:
        return self.layer.weight.detach().double()

    def _bias(self) -> Tensor:
        bias = self.layer.bias
        return torch.zeros(self.outputs.numel()).double() if bias is None else bias.detach().double()


class ShrinkableNorm(Shrinkable):
    """BatchNorm in evaluation mode: one scale and shift a channel."""

    def __init__(self, name: str, layer: BatchNorm, channels: Tensor) -> None:
        super().__init__(name)
        self.layer, self.outputs = layer, channels

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """The channels that stay."""
        keep = live[self.outputs]
        if bool(keep.all()):
            return None
        layer = copy.deepcopy(self.layer)
        layer.num_features = int(keep.sum())
        for key in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(layer, key)
            if value is not None:
                kept = value.detach()[keep]
                setattr(layer, key, nn.Parameter(kept, False) if isinstance(value, nn.Parameter) else kept)
        return layer


class ShrinkableEmbedding(Shrinkable):
    """Embedding columns."""

    def __init__(self, name: str, layer: nn.Embedding, units: Units) -> None:
        super().__init__(name)
        self.layer, self.outputs = layer, units.new(layer.embedding_dim)

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """The columns that stay."""
        keep = live[self.outputs]
        if bool(keep.all()):
            return None
        weight = self.layer.weight.detach()[:, keep].contiguous()
        return cast(nn.Module, nn.Embedding.from_pretrained(weight, padding_idx=self.layer.padding_idx))


class ShrinkableParameter(Shrinkable):
    """A parameter or buffer used as it is, such as a learned position: features along its last axis."""

    def __init__(self, name: str, owner: nn.Module, units: Units) -> None:
        super().__init__(name)
        self.owner, self.key = owner, name.rpartition(".")[2]
        self.outputs = units.new(getattr(owner, self.key).shape[-1])

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """Cuts the parameter in place, for it is no module."""
        value, keep = getattr(self.owner, self.key), live[self.outputs]
        if not bool(keep.all()):
            kept = value.detach()[..., keep].contiguous()
            setattr(self.owner, self.key, nn.Parameter(kept, False) if isinstance(value, nn.Parameter) else kept)
        return None


class ShrinkableAttention(Shrinkable):
    """Attention taken apart: whole heads, and within the heads query/key and value dimensions."""

    def __init__(
        self,
        name: str,
        layer: Attention,
        inputs: list[Tensor],
        constants: list[Tensor],
        masked: bool,
        units: Units,
    ) -> None:
        super().__init__(name)
        self.layer = layer
        self.projections = [
            ShrinkableLinear(f"{name}.{part}", getattr(layer, part), ids, known, units)
            for part, ids, known in zip(("query", "key", "value"), inputs, constants, strict=True)
        ]
        mixed = self.projections[2].output_constants()
        if masked:  # a row with every key masked is no average of the values
            mixed = mixed.where(mixed == 0, torch.nan)
        self.out = ShrinkableLinear(f"{name}.out_proj", layer.out_proj, self.projections[2].outputs, mixed, units)
        self.outputs = self.out.outputs
        query, key = (p.output_constants() for p in self.projections[:2])
        self.matters = (query != 0) & (key != 0)  # a dimension in which either is 0 adds nothing to any score

    def settle(self, units: Units) -> None:
        """As for every layer, parts included."""
        super().settle(units)
        for part in (*self.projections, self.out):
            part.settle(units)

    def reads(self, live: Tensor) -> Tensor:
        """What the projections of the heads that matter read."""
        query, key, value = self.projections
        values = self.out.reads(live)
        live = live.clone()
        live[values] = True
        heads = live[value.outputs].view(self.layer.num_heads, -1).any(1)
        scores = self.matters & heads.repeat_interleave(self.matters.numel() // heads.numel())
        live[query.outputs], live[key.outputs] = scores, scores
        read = torch.cat([p.reads(live) for p in self.projections])
        return torch.cat([values, query.outputs[scores], key.outputs[scores], read])

    def rebuild(self, live: Tensor) -> nn.Module | None:
        """Fewer heads, and every head as narrow as its widest needs."""
        query, key, value = self.projections
        count = self.layer.num_heads
        heads = live[value.outputs].view(count, -1).any(1)
        if not bool(heads.any()):
            heads[0] = True
        keep_value = _as_many_each(live[value.outputs].view(count, -1), heads)
        keep_query = _as_many_each(live[query.outputs].view(count, -1), heads)
        live = live.clone()
        live[value.outputs], live[query.outputs], live[key.outputs] = keep_value, keep_query, keep_query
        parts = {p.name.rpartition(".")[2]: p.rebuild(live) for p in (*self.projections, self.out)}
        if not any(parts.values()):
            return None
        layer = copy.copy(self.layer)
        layer._modules = self.layer._modules | {k: v for k, v in parts.items() if v is not None}
        layer.num_heads = int(heads.sum())
        return layer

    def sizes(self, live: Tensor) -> tuple[int, int]:
        """Value dimensions over all heads, before and after."""
        value = self.projections[2].outputs
        return value.numel(), int(live[value].sum())


def _as_many_each(wanted: Tensor, heads: Tensor) -> Tensor:
    """Keep as many dimensions in every kept head as the neediest wants: (heads, width) to a flat mask."""
    count = max(1, int(wanted[heads].sum(1).max()))
    order = wanted.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    keep = torch.zeros_like(wanted).scatter_(1, order[:, :count], True)
    return (keep & heads[:, None]).flatten()


def resized(layer: nn.Linear | Convolution, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The layer with other weights, and sizes to match."""
    if isinstance(layer, nn.Linear):
        return linear(weight, bias)
    small = copy.deepcopy(layer)
    small.out_channels, small.in_channels = weight.shape[:2]
    small.weight = nn.Parameter(weight.contiguous(), False)
    small.bias = None if bias is None else nn.Parameter(bias, False)
    return small
