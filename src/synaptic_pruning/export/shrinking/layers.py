"""Rebuild Linear, convolution, norm, embedding and attention layers without pruned units."""

import copy
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from synaptic_pruning.export.shrinking.unit_graph import UnitGraph
from synaptic_pruning.export.unfused import Attention, make_linear

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class Shrinkable(ABC):
    """One layer of the traced model that can be rebuilt smaller.

    Masks over units (units) are True for alive units. After tracing, `resolve_units` replaces every unit by its
    representative.

    Attributes:
        name: The layer's name in the model.
        outputs: The unit of each output feature.
    """

    outputs: Tensor

    def __init__(self, name: str) -> None:
        self.name = name

    def resolve_units(self, units: UnitGraph) -> None:
        """Replace unit numbers by those of their representatives."""
        for key, value in vars(self).items():
            if isinstance(value, Tensor) and value.dtype == torch.long:
                setattr(self, key, units.find_all(value))

    def reads(self, alive: Tensor) -> Tensor:
        """Return units that reach an alive output of this layer and cannot be folded into its bias."""
        return torch.zeros(0, dtype=torch.long)

    def groups(self) -> list[Tensor]:
        """Return sets of units of which at least one must stay."""
        return [self.outputs]

    def all_units(self) -> list[int]:
        """Return every unit of `groups`."""
        return torch.cat(self.groups()).tolist()

    @abstractmethod
    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Return the layer without pruned units; None if it keeps all."""

    def sizes(self, alive: Tensor) -> tuple[int, int]:
        """Return the number of units before and after."""
        return self.outputs.numel(), int(alive[self.outputs].sum())


class ShrinkableLinear(Shrinkable):
    """Linear and ungrouped convolutions: weight (outputs, inputs, *kernel).

    Args:
        name: The layer's name in the model.
        layer: The layer.
        inputs: The unit of each input feature.
        constants: Constant value of each input feature, NaN where it varies.
        units: The graph to take the output units from.
    """

    def __init__(
        self, name: str, layer: nn.Linear | Convolution, inputs: Tensor, constants: Tensor, units: UnitGraph
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
        """Return the constant value of each output, NaN where it depends on the input."""
        weight = self._weight().flatten(2) if self.layer.weight.dim() > 2 else self._weight()[:, :, None]
        varies = (weight != 0).any(2)[:, ~self.foldable].any(1)
        known = weight.sum(2) @ self.constants.where(self.foldable, 0) + self._bias()
        return known.where(~varies, torch.nan)

    def reads(self, alive: Tensor) -> Tensor:
        """Return inputs with a non-zero weight into an alive output."""
        used = (self.layer.weight.detach()[alive[self.outputs]] != 0).any(0)
        return self.inputs[(used.flatten(1).any(1) if used.dim() > 1 else used) & ~self.foldable]

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Cut rows and columns of pruned units and fold constant inputs into the bias."""
        rows, columns = alive[self.outputs], alive[self.inputs]
        if bool(rows.all()) and bool(columns.all()):
            return None
        weight = self._weight()
        folded_constants = self.constants.where(self.foldable & ~columns, 0)
        folded = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
        bias: Tensor | None = (self._bias() + folded @ folded_constants)[rows].to(self.layer.weight.dtype)
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

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Keep the alive channels."""
        keep = alive[self.outputs]
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
    """Columns of an embedding."""

    def __init__(self, name: str, layer: nn.Embedding, units: UnitGraph) -> None:
        super().__init__(name)
        self.layer, self.outputs = layer, units.new(layer.embedding_dim)

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Keep the alive columns."""
        keep = alive[self.outputs]
        if bool(keep.all()):
            return None
        weight = self.layer.weight.detach()[:, keep].contiguous()
        return cast(nn.Module, nn.Embedding.from_pretrained(weight, padding_idx=self.layer.padding_idx))


class ShrinkableParameter(Shrinkable):
    """A parameter or buffer used on its own, such as a learned position; features along its last axis."""

    def __init__(self, name: str, owner: nn.Module, units: UnitGraph) -> None:
        super().__init__(name)
        self.owner, self.key = owner, name.rpartition(".")[2]
        self.outputs = units.new(getattr(owner, self.key).shape[-1])

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Cut the parameter in place and return None, since it is no module."""
        value, keep = getattr(self.owner, self.key), alive[self.outputs]
        if not bool(keep.all()):
            kept = value.detach()[..., keep].contiguous()
            setattr(self.owner, self.key, nn.Parameter(kept, False) if isinstance(value, nn.Parameter) else kept)
        return None


class ShrinkableAttention(Shrinkable):
    """Unfused attention: whole heads, and dimensions of queries, keys and values within a head.

    Args:
        name: The layer's name in the model.
        layer: The attention.
        inputs: The unit of each input feature of queries, keys and values.
        constants: Constant values of these features, NaN where they vary.
        masked: Whether the attention is called with a mask.
        units: The graph to take new units from.
    """

    def __init__(
        self,
        name: str,
        layer: Attention,
        inputs: list[Tensor],
        constants: list[Tensor],
        masked: bool,
        units: UnitGraph,
    ) -> None:
        super().__init__(name)
        self.layer = layer
        self.projections = [
            ShrinkableLinear(f"{name}.{part}", getattr(layer, part), ids, known, units)
            for part, ids, known in zip(("query", "key", "value"), inputs, constants, strict=True)
        ]
        mixed = self.projections[2].output_constants()
        if masked:  # a query whose keys are all masked has no average of the values
            mixed = mixed.where(mixed == 0, torch.nan)
        self.out = ShrinkableLinear(f"{name}.out_proj", layer.out_proj, self.projections[2].outputs, mixed, units)
        self.outputs = self.out.outputs
        query, key = (p.output_constants() for p in self.projections[:2])
        self.scored = (query != 0) & (key != 0)  # a dimension in which either is 0 adds nothing to any score

    def resolve_units(self, units: UnitGraph) -> None:
        """Resolve the units of this layer and its projections."""
        super().resolve_units(units)
        for part in (*self.projections, self.out):
            part.resolve_units(units)

    def reads(self, alive: Tensor) -> Tensor:
        """Return what the projections of the alive heads read."""
        query, key, value = self.projections
        values = self.out.reads(alive)
        alive = alive.clone()
        alive[values] = True
        heads = alive[value.outputs].view(self.layer.num_heads, -1).any(1)
        scores = self.scored & heads.repeat_interleave(self.scored.numel() // heads.numel())
        alive[query.outputs], alive[key.outputs] = scores, scores
        read = torch.cat([p.reads(alive) for p in self.projections])
        return torch.cat([values, query.outputs[scores], key.outputs[scores], read])

    def rebuild(self, alive: Tensor) -> nn.Module | None:
        """Keep the alive heads, all as wide as the one that needs most."""
        query, key, value = self.projections
        count = self.layer.num_heads
        heads = alive[value.outputs].view(count, -1).any(1)
        if not bool(heads.any()):
            heads[0] = True
        keep_value = _equal_widths(alive[value.outputs].view(count, -1), heads)
        keep_query = _equal_widths(alive[query.outputs].view(count, -1), heads)
        alive = alive.clone()
        alive[value.outputs], alive[query.outputs], alive[key.outputs] = keep_value, keep_query, keep_query
        parts = {p.name.rpartition(".")[2]: p.rebuild(alive) for p in (*self.projections, self.out)}
        if not any(parts.values()):
            return None
        layer = copy.copy(self.layer)
        layer._modules = self.layer._modules | {k: v for k, v in parts.items() if v is not None}
        layer.num_heads = int(heads.sum())
        return layer

    def sizes(self, alive: Tensor) -> tuple[int, int]:
        """Return the number of value dimensions over all heads, before and after."""
        value = self.projections[2].outputs
        return value.numel(), int(alive[value].sum())


def _equal_widths(wanted: Tensor, heads: Tensor) -> Tensor:
    """Return a flat mask with equally many dimensions in every kept head, as many as the widest needs."""
    count = max(1, int(wanted[heads].sum(1).max()))
    order = wanted.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    keep = torch.zeros_like(wanted).scatter_(1, order[:, :count], True)
    return (keep & heads[:, None]).flatten()


def resized(layer: nn.Linear | Convolution, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return the layer with other weights and sizes to match."""
    if isinstance(layer, nn.Linear):
        return make_linear(weight, bias)
    small = copy.deepcopy(layer)
    small.out_channels, small.in_channels = weight.shape[:2]
    small.weight = nn.Parameter(weight.contiguous(), False)
    small.bias = None if bias is None else nn.Parameter(bias, False)
    return small
