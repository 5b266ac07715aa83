"""SET: train at one sparsity throughout; the weakest connections make room for random new ones."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from synaptic_pruning.core import PrunableParameter, Synapses
from synaptic_pruning.core.topk import LazyScores, smallest_in_blocks, smallest_k
from synaptic_pruning.rules.allocation import Pattern, Patterned, erdos_renyi_kernel
from synaptic_pruning.rules.base import Rule
from synaptic_pruning.rules.dynamic.pretrained import find_pretrained, looks_drawn, zeros_of_pruning
from synaptic_pruning.rules.scores import Piece, Score, layer_scores, random


@dataclass(repr=False)
class SET(Patterned, Rule):
    """Train at one sparsity throughout; at events every layer swaps its weakest connections for random new ones.

    A fresh network starts with a random mask, its density a layer by the Erdős–Rényi-kernel rule (ERK), so that small
    layers stay dense. A network that holds that many zeros already, as a checkpoint of a sparse one does, keeps them
    as its mask. An event swaps ``drop/2 · (1 + cos(π · progress/end))`` of a layer's alive weights, or as many as it
    has room for. What was pruned at an event does not grow again at it. New connections start at zero with clean
    optimizer state.

    Args:
        sparsity: In (0, 1), kept exactly at every event.
        drop: Drop fraction: the part of a layer's alive weights that the first events swap, in (0, 1).
        end: Training progress in (0, 1] from which nothing is swapped any more.
        max_layer_sparsity: No layer starts above it, in (0, 1).
        seed: Seed of the initial mask and of random growth.
        scaled_start: Divide the weights alive at the start by the root of their layer's density, so that sums over
            inputs keep their variance; for fresh networks. Recurrent ones remember too little without it.
        pattern: ``(k, n)``: of every n consecutive inputs of a row, over the kernel of a convolution too, k are alive,
            at first random ones. The sparsity must be 1 − k/n. What a block drops it grows. A shorter block, as the
            last of a row, keeps its share, rounded, at least 1. In place of ERK and ``max_layer_sparsity``.

    Raises:
        ValueError: A number outside its range, or a pattern that contradicts another argument; from the pruner, if
            several ranks share a block, or ``scaled_start`` was asked for on weights that do not look freshly drawn
            (`find_pretrained`). A warning where they may have been trained (`looks_drawn`).

    Source: Mocanu et al. (2018); the cosine is from Dettmers & Zettlemoyer (2019); on the scale of sparse initial
    weights, Evci et al. (2022), Gradient Flow in Sparse Neural Networks.

    Example:
        >>> import synaptic_pruning as sp
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> pruner = sp.SynapticPruner(net, optimizer, sp.SET(0.5), total_steps=1000)
        >>> pruner.sparsity()
        0.5
        >>> rule = sp.SET(1 - 3 / 32, pattern=(3, 32))
    """

    shardable: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    compensate: ClassVar[float] = 4.0

    sparsity: float = 0.9
    drop: float = 0.3
    end: float = 0.75
    max_layer_sparsity: float = 0.99
    seed: int = 0
    scaled_start: bool = False
    _events: int = field(default=0, init=False, repr=False)
    _sparse_before: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.pattern is not None:
            self._check_pattern("sparsity", self.sparsity, ("max_layer_sparsity",))
        most = self.max_layer_sparsity if self.pattern is None else 1
        if not 0 < self.sparsity <= most:
            raise ValueError(
                f"sparsity={self.sparsity} must be above 0 and at most max_layer_sparsity={self.max_layer_sparsity}"
            )
        if not 0 < self.max_layer_sparsity < 1:
            raise ValueError(f"max_layer_sparsity={self.max_layer_sparsity} must be in (0, 1): 1 would empty a layer")
        if not 0 < self.drop < 1:
            raise ValueError(f"drop={self.drop} must be in (0, 1): a part of the alive weights")
        if not 0 < self.end <= 1:
            raise ValueError(f"end={self.end} must be a training progress in (0, 1]")

    @property
    def ramp_end(self) -> float:
        """The sparsity is reached at the start."""
        return 0.0

    def refusal(self, synapses: Synapses) -> str:
        """Refuse a scaled start on weights that do not look freshly drawn, unless they are sparse already."""
        pretrained = "" if not self.scaled_start or self._is_sparse(synapses) else find_pretrained(synapses.layers)
        return pretrained and (
            f"{pretrained} does not look freshly initialised, and {type(self).__name__} with scaled_start=True (as by "
            f"default) would prune {self.sparsity:.0%} of the weights at random; to prune a trained network, give "
            "rule=ToSparsity(cubic(0.8, begin=0.3, end=0.8)), or, to resume, the pruner's state with state="
        )

    def attach(self, model: nn.Module, synapses: Synapses) -> list[Tensor]:
        """Return the initial masks: random ones, or the zeros of a network that is sparse already."""
        self._events = 0
        self._sparse_before = self._is_sparse(synapses)
        if pattern := self._within_blocks():
            return pattern.prune(synapses, pattern.k, self._zeros_first(synapses))
        if self._sparse_before:
            return self._zeros_as_masks(synapses)
        counts = erdos_renyi_kernel(synapses, self.sparsity, self.max_layer_sparsity)
        scores = layer_scores(synapses, random(self.seed))
        return synapses.masks_without([smallest_k([s], n)[0] for s, n in zip(scores, counts, strict=True)])

    @torch.no_grad()
    def initialise(self, synapses: Synapses) -> None:
        """Scale the alive weights of a fresh network, where that was asked for; say so where it may not be fresh."""
        if not self.scaled_start or self._sparse_before:
            return
        if not looks_drawn(synapses.layers):
            warnings.warn(
                f"{type(self).__name__} with scaled_start=True (as by default) prunes {self.sparsity:.0%} of the "
                "weights at random, and these do not look drawn as PyTorch's layers start; if they were trained, give "
                "rule=ToSparsity(cubic(0.8, begin=0.3, end=0.8)) instead",
                stacklevel=4,
            )
        for layer in synapses.layers:
            layer.weight.mul_((layer.size / layer.count) ** 0.5)

    def update(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return masks in which weak connections made room for new ones; see `Rule.update`."""
        self._events += 1
        pruned = self.prune_step(synapses, progress)
        if progress >= self.end:
            return pruned
        fraction = self.drop / 2 * (1 + math.cos(math.pi * progress / self.end))
        alive = synapses.count_true(pruned)[0]
        if pattern := self._within_blocks():
            return self._swap_in_blocks(synapses, pattern, pruned, [round(fraction * count) for count in alive])
        return [
            self._drop_and_grow(layer, mask, place, min(round(fraction * count), layer.size - layer.count))
            for place, (layer, mask, count) in enumerate(zip(synapses.layers, pruned, alive, strict=True))
        ]

    def prune_step(self, synapses: Synapses, progress: float) -> list[Tensor]:
        """Return the masks before the swap; they have the sparsity that is wanted after it."""
        if pattern := self._within_blocks():  # masks of an earlier training may lie otherwise
            return pattern.prune(synapses, pattern.k, "magnitude")
        return [layer.alive for layer in synapses.layers]

    def grow_scores(self, layer: PrunableParameter, place: int) -> Tensor:
        """Return the grow score of each position of this rank's part, flat; the largest of the pruned ones grow."""
        # Hashes of seed, event and position alone: every rank and a resumed run agree.
        score = random(self.seed << 32 | self._events)
        return score(Piece(layer.weight.detach().reshape(-1), None, place, 0, layer.shard))

    def state_dict(self) -> dict[str, Any]:
        """Return the number of events, on which random growth depends."""
        return {"events": self._events}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._events = state["events"]

    def _is_sparse(self, synapses: Synapses) -> bool:
        if pattern := self._within_blocks():
            pattern.check_whole(synapses)
            nonzero = [layer.weight.detach() != 0 for layer in synapses.layers]
            return any(zeros_of_pruning(synapses)) and pattern.holds(synapses, nonzero)
        return sum(zeros_of_pruning(synapses)) >= round(self.sparsity * synapses.total)

    def _zeros_as_masks(self, synapses: Synapses) -> list[Tensor]:
        """Prune zeros alone, as many as the sparsity says; which of them, if there are more, is random."""
        return synapses.masks_without(
            smallest_k(layer_scores(synapses, self._zeros_first(synapses)), round(self.sparsity * synapses.total))
        )

    def _zeros_first(self, synapses: Synapses) -> Score:
        """Return random scores, those of the zeros that pruning has left below all others."""
        zeros, score = zeros_of_pruning(synapses), random(self.seed)

        def zeros_first(piece: Piece) -> Tensor:
            return score(piece) + 2.0 * (piece.weight != 0) if zeros[piece.layer] else score(piece) + 2.0

        return zeros_first

    def _swap_in_blocks(
        self, synapses: Synapses, pattern: Pattern, masks: list[Tensor], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Swap so many weights a layer, or as many as have room; what a block drops grows in the same block."""
        layers, blocks = synapses.layers, pattern.blocks(synapses)
        free = [~layer.alive for layer in layers]  # pruned before this event: what is pruned at it does not grow again
        room = [
            torch.minimum(one.count(mask), one.count(some)) for one, mask, some in zip(blocks, masks, free, strict=True)
        ]
        weakest = smallest_in_blocks(
            [_sizes(layer, mask) for layer, mask in zip(layers, masks, strict=True)], blocks, room
        )
        counts = [min(n, most) for n, most in zip(wanted, synapses.count_true(weakest)[0], strict=True)]
        dropped = [
            smallest_k([_sizes(layer, some)], n)[0].view_as(some)
            for layer, some, n in zip(layers, weakest, counts, strict=True)
        ]
        grown = smallest_in_blocks(
            [self._growth(layer, place, some) for place, (layer, some) in enumerate(zip(layers, free, strict=True))],
            blocks,
            [one.count(some) for one, some in zip(blocks, dropped, strict=True)],
        )
        return [
            mask & ~gone | new if n else mask for mask, gone, new, n in zip(masks, dropped, grown, counts, strict=True)
        ]

    def _drop_and_grow(self, layer: PrunableParameter, mask: Tensor, place: int, count: int) -> Tensor:
        if count == 0:
            return mask
        dropped = smallest_k([_sizes(layer, mask)], count)[0]
        # Pruned before this event: what is pruned at it does not grow again.
        grown = smallest_k([self._growth(layer, place, ~layer.alive)], count)[0]
        return (mask.reshape(-1) & ~dropped | grown).view_as(mask)

    def _growth(self, layer: PrunableParameter, place: int, free: Tensor) -> LazyScores:
        """Return what ranks the positions that may grow, the smallest first."""
        scores = -self.grow_scores(layer, place)
        return LazyScores.of(scores, f"growth of {layer.name}", free.reshape(-1), layer.shard)


def _sizes(layer: PrunableParameter, mask: Tensor) -> LazyScores:
    """Return the sizes of a layer's weights, of those in the mask."""
    return LazyScores.of(layer.weight.detach().abs(), layer.name, mask.reshape(-1), layer.shard)
