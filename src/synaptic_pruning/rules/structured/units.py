"""Units: prune whole hidden units, channels and attention heads, so that layers get narrower."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from synaptic_pruning.core import Synapses, find_parameter, is_input_first, unwrap
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.schedules import Schedule
from synaptic_pruning.rules.structured.banks import Bank, UnitPart, rows_of

_ATTENTION_OUTPUT = nn.modules.linear.NonDynamicallyQuantizableLinear  # its rows are as many as the inputs


@dataclass
class Units(Rule):
    """Prune whole units for good, of every layer the same part, weakest first: ``round(schedule(progress) · units)``.

    A unit is an output of a Linear or Bilinear, a channel of a convolution, a hidden unit of an RNN, LSTM or GRU (all
    its gates, in each layer and direction), or an attention head. Its score is the norm of the weights into it.
    Pruned with it are those, its biases, and the weights out of it in its own module: recurrent columns, those of the
    layer above in a deep recurrent layer, of its projection, of an attention's output projection. So it is exactly 0
    from then on (a recurrent one from a zero state), and `export.shrink` can take it out. Every layer keeps a unit.

    Biases count as prunable under this rule. **Leave the output layer out**, as in ``exclude=["head.*"]``, or outputs
    are pruned too. Left alone are layers with an excluded or frozen weight into a unit, and grouped transposed ones.

    Args:
        schedule: Wanted part of each layer's units that are pruned, such as ``cubic(0.5, begin=0.05, end=0.5)``.

    Raises:
        ValueError: A weight is NaN, or no layer has units to prune.

    Source: magnitude of whole filters, Li et al. (2017), arXiv 1608.08710; with a ramp and recurrent units.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> rule = sp.Units(sp.cubic(0.5, begin=0.05, end=0.5))
        >>> pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=1000, exclude=["2.*"])
    """

    biases: ClassVar[bool] = True

    schedule: Schedule
    _banks: list[Bank] = field(default_factory=list, init=False, repr=False)

    @property
    def end(self) -> float:
        """Progress at which the schedule reaches its end."""
        return self.schedule.end

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Find the units of every layer; see `Rule.attach`."""
        places = {id(layer.parameter): place for place, layer in enumerate(synapses.layers)}
        self._banks = []
        for module in unwrap(model).modules():
            for parts in banks(module):
                found = [(places.get(id(find_parameter(module, s.parameter))), s) for s in parts]
                if all(place is not None for place, part in found if part.scored):
                    name = synapses.layers[next(place for place, _ in found if place is not None)].name
                    self._banks.append(Bank(name, [(place, s) for place, s in found if place is not None]))
        if not self._banks:
            raise ValueError(
                "the model has no units to prune: every Linear, Conv, RNN and attention layer is excluded or frozen"
            )
        return super().attach(model, synapses)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks without the weakest units; see `Rule.update`."""
        target = self.schedule(progress)
        masks = [layer.alive.clone() for layer in synapses.layers]
        for bank in self._banks:
            bank.prune(bank.weakest(synapses, target), masks)
        return masks


def banks(module: nn.Module) -> Iterator[list[UnitPart]]:
    """The units of one module, as far as it knows them itself: a list of parts for each bank.

    >>> [(part.parameter, part.axis, part.scored) for part in next(banks(nn.Linear(2, 3)))]
    [('weight', 0, True), ('bias', 0, False)]
    """
    if isinstance(module, nn.RNNBase):
        yield from _recurrent(module)
    elif isinstance(module, nn.RNNCellBase):
        yield [*_inputs(module, ""), UnitPart("weight_hh", 1, rows_of(module.hidden_size), False)]
    elif isinstance(module, nn.MultiheadAttention):
        yield _attention(module)
    elif isinstance(module, nn.modules.conv._ConvTransposeNd):
        if module.groups == 1:
            yield _outputs(module, 1)
    elif is_input_first(module):
        yield _outputs(module, 1)
    elif (
        isinstance(module, nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd) and type(module) is not _ATTENTION_OUTPUT
    ):
        yield _outputs(module, 0)


def _outputs(module: Any, axis: int) -> list[UnitPart]:
    rows = rows_of(module.weight.shape[axis])
    bias = [] if module.bias is None else [UnitPart("bias", 0, rows, False)]
    return [UnitPart("weight", axis, rows, True), *bias]


def _inputs(module: nn.RNNBase | nn.RNNCellBase, suffix: str) -> list[UnitPart]:
    """What goes into the gates of a recurrent layer."""
    rows = rows_of(module.hidden_size, len(module.get_parameter(f"weight_ih{suffix}")) // module.hidden_size)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    here = [name for name in names if getattr(module, name + suffix, None) is not None]
    return [UnitPart(name + suffix, 0, rows, name.startswith("weight")) for name in here]


def _recurrent(module: nn.RNNBase) -> Iterator[list[UnitPart]]:
    hidden, directions = module.hidden_size, 2 if module.bidirectional else 1
    for index in range(module.num_layers):
        for direction, reverse in enumerate(("", "_reverse")[:directions]):
            suffix = f"_l{index}{reverse}"
            parts = _inputs(module, suffix)
            if module.proj_size:
                parts.append(UnitPart(f"weight_hr{suffix}", 1, rows_of(hidden), False))
            else:
                parts.append(UnitPart(f"weight_hh{suffix}", 1, rows_of(hidden), False))
                if index + 1 < module.num_layers:
                    for other in ("", "_reverse")[:directions]:
                        columns = rows_of(hidden) + direction * hidden
                        parts.append(UnitPart(f"weight_ih_l{index + 1}{other}", 1, columns, False))
            yield parts


def _attention(module: nn.MultiheadAttention) -> list[UnitPart]:
    width = module.embed_dim
    head = torch.arange(width, device="cpu").view(module.num_heads, -1)
    three = torch.cat([head, head + width, head + 2 * width], 1)
    if module.in_proj_weight is not None:
        parts = [UnitPart("in_proj_weight", 0, three, True)]
    else:
        parts = [UnitPart(f"{part}_proj_weight", 0, head, True) for part in "qkv"]
    if module.in_proj_bias is not None:
        parts.append(UnitPart("in_proj_bias", 0, three, False))
    return [*parts, UnitPart("out_proj.weight", 1, head, False)]
