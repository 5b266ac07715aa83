"""Cycles (experimental): several sparse networks from one training run, one regrow–prune cycle each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from synaptic_pruning.core import Synapses, unwrap, zero_pruned_
from synaptic_pruning.core.topk import LazyScores, smallest_k
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.dynamic.gradient_growth import gradient_sizes
from synaptic_pruning.rules.schedules import cubic
from synaptic_pruning.rules.to_sparsity import ToSparsity


@dataclass
class Cycles(Rule):
    """Prune, train, keep a copy; regrow, prune, train, keep a copy; … : an ensemble at the price of one training.

    The first cycle takes the fraction ``first`` of training and prunes a dense network; the others share the rest. Each
    of them grows back the connections with the largest gradient until the sparsity is ``regrown``, prunes globally by
    magnitude on a fast-first cubic over its first half, and trains on. At the end of each cycle the network is copied.
    Average the members' outputs; their spread is a measure of uncertainty. Training ends with the last event.

    Args:
        sparsity: Final sparsity of every member, in (0, 1).
        members: Number of networks, at least 2.
        first: Fraction of training in the first cycle, in (0, 1).
        regrown: Sparsity right after growth, in [0, sparsity).

    Raises:
        ValueError: A number outside its range.

    Attributes:
        states: The ``state_dict`` of every member so far.

    Source: of the kind of EDST ensembles (Liu et al. 2021, FreeTickets); growth by gradient is RigL's.

    Example:
        >>> import torch, synaptic_pruning as sp
        >>> net = nn.Linear(8, 4)
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> rule = sp.Cycles(0.75, members=2)
        >>> pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=100)
        >>> for _ in range(100):
        ...     loss = net(torch.randn(4, 8)).square().mean()
        ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
        >>> [float((member["weight"] == 0).float().mean()) for member in rule.states]
        [0.75, 0.75]
    """

    grows: ClassVar[bool] = True

    sparsity: float = 0.9
    members: int = 5
    first: float = 0.4
    regrown: float = 0.7
    states: list[dict[str, Tensor]] = field(default_factory=list, init=False, repr=False)
    end: ClassVar[float] = 1.0
    _model: nn.Module | None = field(default=None, init=False, repr=False)
    _began: float = field(default=0.0, init=False, repr=False)
    _gradients: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity={self.sparsity} must be in (0, 1)")
        if self.members < 2:
            raise ValueError(f"members={self.members} must be at least 2; for one network take ToSparsity")
        if not 0 < self.first < 1:
            raise ValueError(f"first={self.first} must be in (0, 1): the fraction of training in the first cycle")
        if not 0 <= self.regrown < self.sparsity:
            raise ValueError(f"regrown={self.regrown} must be from 0 to below sparsity={self.sparsity}")

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Remember the model, whose copies are taken later; see `Rule.attach`."""
        if self._model is not None:
            raise ValueError("this Cycles already serves another pruner; make a new one")
        self._model = unwrap(model)
        return [layer.alive for layer in synapses.layers]

    def before_event(self, synapses: Synapses) -> None:
        """Take the gradients while those of pruned weights are still there."""
        self._gradients = gradient_sizes(synapses)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Prune on, or, where a cycle ends, keep a copy and grow; see `Rule.update`."""
        number = len(self.states)
        if number == self.members:
            return [layer.alive for layer in synapses.layers]
        until = self.first + number * (1 - self.first) / (self.members - 1)
        ended = progress >= min(until, 1 - 1e-9)
        ramp = cubic(
            self.sparsity,
            begin=self._began,
            end=progress if ended else (self._began + until) / 2,
            initial=self.regrown if number else 0.0,
        )
        masks = ToSparsity(ramp, max_layer_sparsity=max(0.99, self.sparsity)).update(synapses, progress)
        if ended:
            self.states.append(self._copy(synapses, masks))
            self._began = progress
            if number + 1 < self.members:
                masks = self._grown(synapses, masks)
        self._gradients = []
        return masks

    def state_dict(self) -> dict[str, Any]:
        """Return the copies taken so far and where the present cycle began."""
        return {"states": [dict(state) for state in self.states], "began": self._began}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.states = [dict(member) for member in state["states"]]
        self._began = state["began"]

    def detach(self) -> None:
        """Let go of the model; the members' copies stay."""
        self._model = None

    def _copy(self, synapses: Synapses, masks: list[Tensor]) -> dict[str, Tensor]:
        assert self._model is not None
        state = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        zero_pruned_([state[layer.name] for layer in synapses.layers], masks)
        return state

    def _grown(self, synapses: Synapses, masks: list[Tensor]) -> list[Tensor]:
        """Grow the pruned connections of the largest gradient, over all layers, until ``regrown`` is reached."""
        missing = round((1 - self.regrown) * synapses.total) - sum(int(mask.sum()) for mask in masks)
        grow_scores = [
            LazyScores.of(-gradient, f"growth of {layer.name}", ~mask.reshape(-1))
            for layer, gradient, mask in zip(synapses.layers, self._gradients, masks, strict=True)
        ]
        grown = smallest_k(grow_scores, max(0, missing))
        return [mask | new.view_as(mask) for mask, new in zip(masks, grown, strict=True)]
