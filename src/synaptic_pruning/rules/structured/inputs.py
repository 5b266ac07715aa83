"""Inputs: prune whole input features of a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from synaptic_pruning.core import Synapses, find_parameter, is_input_first, unwrap
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.schedules import Schedule
from synaptic_pruning.rules.structured.banks import Bank, UnitPart, rows_of


@dataclass
class Inputs(Rule):
    """Prune whole input features for good, weakest first: ``round(schedule(progress) · features)`` at each event.

    All weights that read one feature go together: a column of a Linear, or of ``weight_ih_l0`` over all gates and in
    both directions, or the input channel of a convolution. Its score is the norm of those weights. One feature always
    stays, and all other layers stay dense. `alive` tells which features are left.

    This is a rule of its own beside `Units`: there every layer loses units, here one place loses what it reads. A layer
    sees a feature only as it is scaled, so give inputs of equal scale. What reaches the network by another way, as by a
    shortcut, is not cut off there. After ``Flatten`` a feature is one column, such as one variable at one lag.

    Args:
        schedule: Wanted part of the features that are pruned, such as ``cubic(0.8, end=0.1)``.
        layers: Names of the modules that read the features, each of them all of the features in the same order;
            default, the first in ``model.named_modules()`` whose weights on its inputs are all prunable.

    Raises:
        ValueError: A layer is unknown, of another kind, frozen, excluded or grouped, layers differ in their number of
            features, or a weight is NaN.

    Example:
        >>> import torch, synaptic_pruning as sp
        >>> net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
        >>> optimizer, rule = torch.optim.Adam(net.parameters()), sp.Inputs(sp.one_shot(0.6, at=0.5))
        >>> pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=4)
        >>> for _ in range(4):
        ...     loss = net(torch.randn(8, 5)).square().mean()
        ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
        >>> rule.alive(pruner.synapses).sum()
        tensor(2)
    """

    schedule: Schedule
    layers: Sequence[str] | None = None
    _bank: Bank | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            raise ValueError(f"layers={self.layers!r} must be a list of module names; write [{self.layers!r}]")
        if self.layers is not None and not self.layers:
            raise ValueError("layers=[] names no module that reads the inputs; name one, or leave it out")

    @property
    def end(self) -> float:
        """Progress at which the schedule reaches its end."""
        return self.schedule.end

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Find the weights that read the inputs; see `Rule.attach`."""
        places = {id(layer.parameter): place for place, layer in enumerate(synapses.layers)}
        modules = dict(unwrap(model).named_modules(remove_duplicate=False))
        parts: list[tuple[int, UnitPart]] = []
        for name in modules if self.layers is None else self.layers:
            if name not in modules:
                raise ValueError(f"layers= names {name!r}, which is no module of the model; see model.named_modules()")
            found = [(places.get(id(find_parameter(modules[name], s.parameter))), s) for s in readers(modules[name])]
            here = [(place, part) for place, part in found if place is not None]
            if here and len(here) == len(found):
                parts += here
                if self.layers is None:
                    break
            elif self.layers is not None:
                raise ValueError(
                    f"{name} has no inputs that can be pruned: it must be a Linear, a Conv without groups, an RNN or a "
                    "MultiheadAttention of one width, and its weights neither frozen nor excluded"
                )
        if not parts:
            raise ValueError("the model has no layer whose inputs can be pruned; name what reads them with layers=")
        if len({len(part.places) for _, part in parts}) > 1:
            raise ValueError(f"layers={list(self.layers or [])} read different numbers of features; name those of one")
        self._bank = Bank(synapses.layers[parts[0][0]].name, parts)
        return super().attach(model, synapses)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks without the weakest features; see `Rule.update`."""
        bank, masks = self._attached(), [layer.alive for layer in synapses.layers]
        weakest = bank.weakest(synapses, self.schedule(progress))
        if len(weakest):
            for place in {place for place, _ in bank.parts}:
                masks[place] = masks[place].clone()
            bank.prune(weakest, masks)
        return masks

    def alive(self, synapses: Synapses) -> Tensor:
        """Return which input features are left: bool, (features,), in the order of the inputs.

        Args:
            synapses: Those of the pruner that this rule serves, ``pruner.synapses``.

        Raises:
            ValueError: The rule serves no pruner yet.
        """
        return self._attached().alive(synapses)

    def norms(self, synapses: Synapses) -> Tensor:
        """Return what ranks the features, the norm of the alive weights that read each: (features,), NaN where pruned.

        Args:
            synapses: As for `alive`.

        Raises:
            ValueError: As for `alive`, or a weight is NaN.
        """
        return self._attached().norms(synapses)

    def _attached(self) -> Bank:
        if self._bank is None:
            raise ValueError("this Inputs serves no pruner yet; callbacks train a copy of their rule: ask pruner.rule")
        return self._bank


def readers(module: nn.Module) -> list[UnitPart]:
    """The weights of a module that read its input features, unit by unit; none where they are not told apart.

    >>> [(part.parameter, part.axis) for part in readers(nn.LSTM(3, 5, bidirectional=True))]
    [('weight_ih_l0', 1), ('weight_ih_l0_reverse', 1)]
    """
    if isinstance(module, nn.RNNBase):
        names, axis = ["weight_ih_l0", "weight_ih_l0_reverse"][: 1 + module.bidirectional], 1
    elif isinstance(module, nn.RNNCellBase):
        names, axis = ["weight_ih"], 1
    elif isinstance(module, nn.MultiheadAttention):
        names, axis = ["in_proj_weight"] if module.in_proj_weight is not None else [], 1
    elif is_input_first(module):
        names, axis = ["weight"], 0
    elif isinstance(module, nn.modules.conv._ConvNd):
        names, axis = ["weight"] if module.groups == 1 else [], 0 if module.transposed else 1
    else:
        names, axis = ["weight"] if isinstance(module, nn.Linear) else [], 1
    weights = [find_parameter(module, name) for name in names]
    return [
        UnitPart(name, axis, rows_of(weight.shape[axis]), True)
        for name, weight in zip(names, weights, strict=True)
        if weight is not None
    ]
