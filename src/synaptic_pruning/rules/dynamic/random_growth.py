"""Sparse training with growth: at every event some of the weakest connections make room for new ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from synaptic_pruning.core.parameter import Layer
from synaptic_pruning.core.synapses import Synapses
from synaptic_pruning.core.topk.lazy_scores import Scores
from synaptic_pruning.core.topk.select import lowest
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.dynamic.pretrained import find_trained
from synaptic_pruning.rules.schedules import cubic
from synaptic_pruning.rules.scores import Piece, random
from synaptic_pruning.rules.to_sparsity import ToSparsity, layer_scores, shares, survivors


@dataclass
class SET(Rule):
    """Train at one sparsity throughout; at events every layer swaps its weakest connections for random new ones.

    The start is a random mask, its density a layer by the Erdős–Rényi-kernel rule, so that small layers stay dense. An
    event swaps ``drop/2 · (1 + cos(π · progress/end))`` of a layer's alive weights, or as many as it has places for.
    What died at an event is not reborn at it. New connections start at zero with clean optimizer state.

    Args:
        sparsity: In (0, 1), kept exactly at every event.
        drop: Fraction of a layer's alive weights that the first events swap, in (0, 1).
        end: Training progress in (0, 1] from which nothing is swapped any more.
        max_layer_sparsity: No layer starts above it, in (0, 1).
        seed: Of the start and of random growth.
        scaled_start: Divide what survives the start by the root of its layer's density, so that sums over inputs keep
            their variance; for fresh networks. Recurrent ones remember too little without it. Train at about twice the
            learning rate of the dense network (docs/recipe.md).

    Raises:
        ValueError: A number outside its range; at the first step, if ``scaled_start`` was asked for on weights that
            do not look freshly drawn (`find_trained`), of which nothing is removed then.

    Source: Mocanu et al. (2018); the cosine is from Dettmers & Zettlemoyer (2019); on the scale of sparse initial
    weights, Evci et al. (2022), Gradient Flow in Sparse Neural Networks.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> pruner = sp.SynapticPruner(net, optimizer, sp.SET(0.5), total_steps=1000)
        >>> pruner.sparsity()
        0.5
    """

    shardable: ClassVar[bool] = True
    grows: ClassVar[bool] = True

    sparsity: float = 0.9
    drop: float = 0.3
    end: float = 0.75
    max_layer_sparsity: float = 0.99
    seed: int = 0
    scaled_start: bool = False
    _events: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.sparsity <= self.max_layer_sparsity:
            raise ValueError(
                f"sparsity={self.sparsity} must be above 0 and at most max_layer_sparsity={self.max_layer_sparsity}"
            )
        if not 0 < self.max_layer_sparsity < 1:
            raise ValueError(f"max_layer_sparsity={self.max_layer_sparsity} must be in (0, 1): 1 would empty a layer")
        if not 0 < self.drop < 1:
            raise ValueError(f"drop={self.drop} must be in (0, 1): a part of the alive weights")
        if not 0 < self.end <= 1:
            raise ValueError(f"end={self.end} must be a training progress in (0, 1]")

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Return the random sparse masks to start with."""
        self._events = 0
        gone = _erdos_renyi(synapses, self.sparsity, self.max_layer_sparsity)
        scores = layer_scores(synapses, random(self.seed))
        return survivors(synapses, [lowest([s], n)[0] for s, n in zip(scores, gone, strict=True)])

    @property
    def ramp_end(self) -> float:
        """The sparsity is there from the start."""
        return 0.0

    def objection(self, synapses: Synapses) -> str:
        """Object to a scaled start on weights that do not look freshly drawn."""
        trained = find_trained(synapses.layers) if self.scaled_start else ""
        return trained and (
            f"{trained} does not look freshly initialised, and {type(self).__name__} with scaled_start=True (as by "
            f"default) would remove {self.sparsity:.0%} of the weights at random; prune what has been learnt with "
            "rule=ToSparsity(cubic(0.8, begin=0.3, end=0.8)), or, to resume, load the pruner's state"
        )

    @torch.no_grad()
    def started(self, synapses: Synapses) -> None:
        """Scale the survivors where that is wanted."""
        for layer in synapses.layers if self.scaled_start else ():
            layer.weight.mul_((layer.size / layer.count) ** 0.5)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks in which weak connections gave way to new ones; see `Rule.update`."""
        self._events += 1
        kept = self.thin(synapses, progress)
        if progress >= self.end:
            return kept
        fraction = self.drop / 2 * (1 + math.cos(math.pi * progress / self.end))
        alive = synapses.counts(kept)[0]
        return [
            self._swap(layer, mask, place, min(round(fraction * count), layer.size - layer.count))
            for place, (layer, mask, count) in enumerate(zip(synapses.layers, kept, alive, strict=True))
        ]

    def thin(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return the masks before the swap; they have the sparsity that is wanted after it."""
        return [layer.alive for layer in synapses.layers]

    def appeal(self, layer: Layer, place: int) -> Tensor:
        """Return how much each place of this rank's part invites growth, flat; among the dead the largest grow."""
        # Hashes of seed, event and place alone: every rank and a resumed run agree.
        score = random(self.seed << 32 | self._events)
        return score(Piece(layer.weight.detach().reshape(-1), None, place, 0, layer.shard))

    def state_dict(self) -> dict[str, Any]:
        """Return how many events passed, on which random growth depends."""
        return {"events": self._events}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._events = state["events"]

    def _swap(self, layer: Layer, kept: Tensor, place: int, swapped: int) -> Tensor:
        if swapped == 0:
            return kept
        weak = layer.weight.detach().abs()
        dying = lowest([Scores.of(weak, layer.name, kept.reshape(-1), layer.shard)], swapped)[0]
        places = ~layer.alive.reshape(-1)  # dead before this event: what died at it is not reborn
        wanted = Scores.of(-self.appeal(layer, place), f"growth of {layer.name}", places, layer.shard)
        born = lowest([wanted], swapped)[0]
        return (kept.reshape(-1) & ~dying | born).view_as(kept)


@dataclass
class RigL(SET):
    """Like `SET`, but what grows is where the gradient of the whole batch, dead places included, is largest.

    Source: Evci et al. (2020), The Rigged Lottery; but what died at an event is not reborn at it.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.RigL(0.9, drop=0.3, end=0.75)
    """

    _gradients: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def before_event(self, synapses: Synapses) -> None:
        """Take the gradients while those of dead places are still there."""
        self._gradients = dense_gradients(synapses)

    def appeal(self, layer: Layer, place: int) -> Tensor:
        """Return the size of the gradient; see `SET.appeal`."""
        return self._gradients[place].reshape(-1)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks in which weak connections gave way to new ones; see `Rule.update`."""
        masks = super().update(synapses, progress)
        self._gradients = []
        return masks


@dataclass
class GraNet(RigL):
    """Start dense, prune globally by magnitude on a cubic ramp, and swap like `RigL` at every event on top.

    What is pruned at an event may grow back at later ones.

    Args:
        sparsity: At the end of the ramp, in (0, 1).
        begin: Training progress at which the ramp starts.
        ramp_end: Training progress at which it ends, at most ``end``.

    Source: Liu et al. (2021), Sparse Training via Boosting Pruning Plasticity with Neuroregeneration.

    Example:
        >>> import synaptic_pruning as sp
        >>> rule = sp.GraNet(0.9, begin=0.05, ramp_end=0.5)
    """

    begin: float = 0.05
    ramp_end: float = 0.5
    _ramp: ToSparsity = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaled_start:
            raise ValueError("scaled_start=True has nothing to scale: GraNet starts dense; leave it out")
        if self.ramp_end > self.end:
            raise ValueError(f"ramp_end={self.ramp_end} must be at most end={self.end}, when the last swap is over")
        ramp = cubic(self.sparsity, begin=self.begin, end=self.ramp_end)
        self._ramp = ToSparsity(ramp, max_layer_sparsity=self.max_layer_sparsity)

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Return the present masks: training starts with what there is."""
        self._events = 0
        return [layer.alive for layer in synapses.layers]

    def thin(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks pruned to where the ramp is."""
        return self._ramp.update(synapses, progress)


def dense_gradients(synapses: Synapses) -> list[Tensor]:
    """Return the size of every weight's gradient, of this rank's part; zeros where a parameter has none."""
    return [
        torch.zeros_like(layer.weight) if layer.gradient is None else layer.gradient.abs() for layer in synapses.layers
    ]


def _erdos_renyi(synapses: Synapses, sparsity: float, most: float) -> list[int]:
    """Divide the missing weights: density proportional to Σ dims / Π dims, layers that would exceed 1 stay dense."""
    sizes = [layer.size for layer in synapses.layers]
    raw = [sum(layer.parameter.shape) / size for layer, size in zip(synapses.layers, sizes, strict=True)]
    dense: set[int] = set()
    while True:
        alive = synapses.total * (1 - sparsity) - sum(sizes[i] for i in dense)
        thin = [i for i in range(len(sizes)) if i not in dense]
        scale = alive / sum(raw[i] * sizes[i] for i in thin) if thin else 0.0
        full = {i for i in thin if scale * raw[i] > 1}
        if not full:
            break
        dense |= full
    exact = [0.0 if i in dense else (1 - scale * raw[i]) * size for i, size in enumerate(sizes)]
    limits = [int(most * size) for size in sizes]
    return shares(min(round(sparsity * synapses.total), sum(limits)), exact, [0] * len(sizes), limits)
