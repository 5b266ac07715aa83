"""Scores of weights, the smallest of which are pruned first: magnitude, relative, usage, gradient, random.

A score is a plain function of one `Piece`: a run of consecutive weights of one tensor. It returns one number a weight
and must not depend on how the tensor was divided into pieces. So no scores are held for the whole network at once.
A new score is one such function and one row in `SCORES`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter, Shard, Synapses, total
from synaptic_pruning.core import activity as activities
from synaptic_pruning.core.topk import LazyScores


class Piece(NamedTuple):
    """Consecutive weights of one tensor.

    Attributes:
        weight: Shape (n,).
        gradient: Shape (n,), of the last optimizer step; None where the parameter has none.
        layer: Place of the tensor among the prunable ones.
        start: Flat position of the first weight in this rank's part of the tensor.
        shard: How the tensor is sharded; None when all of it is here.
        activity: Shape (n,), mean absolute input of each weight; None where the rule observes none.
        scale: Of the layer when training began, as `starting_scales` gives it; 1 where the rule does not measure it.
    """

    weight: Tensor
    gradient: Tensor | None
    layer: int
    start: int
    shard: Shard | None = None
    activity: Tensor | None = None
    scale: float = 1.0

    def positions(self) -> Tensor:
        """Return the flat position of each weight in the whole tensor, shape (n,), int64."""
        flat = torch.arange(self.start, self.start + self.weight.numel(), device=self.weight.device)
        return flat if self.shard is None else self.shard.positions(flat)


Score = Callable[[Piece], Tensor]


def magnitude(piece: Piece) -> Tensor:
    """Score a weight by its absolute value (Han et al. 2015; Vos et al. 2025).

    Example:
        >>> magnitude(Piece(torch.tensor([-2.0, 1.0]), None, 0, 0))
        tensor([2., 1.])
    """
    return piece.weight.abs()


def relative(piece: Piece) -> Tensor:
    """Score a weight by its absolute value over the scale that its layer started with; see `starting_scales`.

    Where all layers start at one scale, as in a recurrent network of PyTorch's, this ranks as magnitude does.

    Example:
        >>> relative(Piece(torch.tensor([-2.0, 1.0]), None, 0, 0, scale=0.5))
        tensor([4., 2.])
    """
    return piece.weight.abs().to(torch.promote_types(piece.weight.dtype, torch.float32)) / piece.scale


def usage(piece: Piece) -> Tensor:
    """Score a weight by |w| · E|x|, its size times the mean size of its input in the window before the event.

    Source: Wanda (Sun et al. 2023), which takes the root mean square of x in place of the mean size, and compares
        within an output unit.

    Raises:
        ValueError: The rule observes no activity.

    Example:
        >>> usage(Piece(torch.tensor([-2.0, 1.0]), None, 0, 0, activity=torch.tensor([0.5, 3.0])))
        tensor([1., 3.])
    """
    if piece.activity is None:
        raise ValueError("score='usage' needs a rule that observes activity; give it to ToSparsity")
    return activities.usage(piece.weight, piece.activity)


def gradient(piece: Piece) -> Tensor:
    """Score a weight by |w · ∂L/∂w|, the first-order change of the loss if it were pruned (Molchanov et al. 2017).

    Raises:
        ValueError: The parameter has no gradient.

    Example:
        >>> gradient(Piece(torch.tensor([-2.0, 1.0]), torch.tensor([0.5, 3.0]), 0, 0))
        tensor([1., 3.])
    """
    if piece.gradient is None:
        raise ValueError(
            f"score='gradient' found no gradient on prunable tensor {piece.layer}; "
            "call backward before the step, or leave that parameter out with exclude="
        )
    return (piece.weight * piece.gradient).abs()


def random(seed: int = 0) -> Score:
    """Score by a fixed random number a weight: the control that shows whether choosing matters at all.

    The number depends on the seed and the weight's position alone (a SplitMix64 hash). So every event, every rank and
    a resumed run agree. Uniform in [0, 1) with 24 bits.

    Example:
        >>> score = random(seed=1)
        >>> whole = score(Piece(torch.zeros(6), None, 0, 0))
        >>> bool((whole[2:] == score(Piece(torch.zeros(4), None, 0, 2))).all())
        True
    """

    return partial(_random, seed)


def _random(seed: int, piece: Piece) -> Tensor:
    place = piece.positions()
    key = _scramble(_scramble(torch.tensor([seed, piece.layer], device=place.device)).sum() + place)
    return (_shift(key, 40)).to(torch.float32) / (1 << 24)


def _scramble(x: Tensor) -> Tensor:
    """SplitMix64's output function on int64, which wraps around as its unsigned arithmetic does."""
    x = x * -7046029254386353131
    x.bitwise_xor_(_shift(x, 30)).mul_(-4658895280553007687)
    x.bitwise_xor_(_shift(x, 27)).mul_(-7723592293110705685)
    return x.bitwise_xor_(_shift(x, 31))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, which int64's own shift does not."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "relative": relative,
    "usage": usage,
    "gradient": gradient,
    "random": random(),
}


def find_score(score: str | Score) -> Score:
    """Return the score of that name, or the function itself.

    Raises:
        ValueError: No score has that name.
    """
    if callable(score):
        return score
    if score not in SCORES:
        raise ValueError(f"score={score!r} is unknown; take one of {', '.join(SCORES)} or a function of a Piece")
    return SCORES[score]


def starting_scales(synapses: Synapses) -> list[float]:
    """Return for each layer the root mean square of its weights that are not zero, or the network's where that is less.

    A layer after a wide one starts with smaller weights, which would all be pruned before they have learnt anything
    ("layer collapse", Tanaka et al. 2020). One that starts with larger weights than the network keeps that advantage:
    it has few inputs, and each matters more. A layer of zeros, or of numbers that are not finite, counts as the
    network. Of shards, every rank must call it.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 2))
        >>> _ = nn.init.constant_(net[0].weight, 0.5), nn.init.constant_(net[1].weight, -0.25)
        >>> [round(scale, 4) for scale in starting_scales(Synapses(net))]
        [0.3536, 0.25]
    """
    shards = [layer.shard for layer in synapses.layers]
    squares, counts = [], []
    for layer in synapses.layers:
        weight = layer.weight.detach()
        dtype = torch.float32 if weight.device.type == "mps" else torch.float64
        square = float(torch.linalg.vector_norm(weight, dtype=dtype)) ** 2
        squares.append(square if math.isfinite(square) else 0.0)
        counts.append(int(weight.count_nonzero()) if math.isfinite(square) else 0)
    squares = total(torch.tensor(squares, dtype=torch.float64, device="cpu"), shards).tolist()
    counts = total(torch.tensor(counts, device="cpu"), shards).tolist()
    network = math.sqrt(sum(squares) / max(1, sum(counts))) or 1.0
    own = [math.sqrt(square / max(1, count)) for square, count in zip(squares, counts, strict=True)]
    # Rounded, so that it does not matter how sums were divided among ranks.
    return [float(f"{min(scale or network, network):.6g}") for scale in own]


def layer_scores(
    synapses: Synapses,
    score: str | Score,
    activity: Sequence[Tensor | None] = (),
    scales: Sequence[float] = (),
) -> list[LazyScores]:
    """Return the scores of all alive weights, computed when read.

    Args:
        synapses: The prunable weights.
        score: A name of `SCORES` or a function of a `Piece`.
        activity: For each layer what `ActivityMonitor.end_window` gave, for scores that ask for it; None counts as 0.
        scales: For each layer what `starting_scales` gave, for scores that ask for it.
    """
    function = find_score(score)
    inputs: list[Tensor | None] = [None] * len(synapses.layers)
    if activity:
        inputs = [
            layer.parameter.new_zeros((1,) * layer.parameter.dim()) if mean is None else mean
            for layer, mean in zip(synapses.layers, activity, strict=True)
        ]
    scales = scales or [1.0] * len(synapses.layers)
    return [
        _lazy_scores(layer, place, function, inputs[place], scales[place])
        for place, layer in enumerate(synapses.layers)
    ]


def _lazy_scores(
    layer: PrunableParameter, place: int, score: Score, activity: Tensor | None, scale: float
) -> LazyScores:
    weight = layer.weight.detach().reshape(-1)
    gradient = None if layer.gradient is None else layer.gradient.reshape(-1)
    inputs = None if activity is None else activities.expand_activity(activity, layer.weight).reshape(-1)

    def read(start: int, stop: int) -> Tensor:
        some_gradient = None if gradient is None else gradient[start:stop]
        some_inputs = None if inputs is None else inputs[start:stop]
        return score(Piece(weight[start:stop], some_gradient, place, start, layer.shard, some_inputs, scale))

    alive = None if layer.count == layer.size else layer.alive.reshape(-1)
    dtype = read(0, 0).dtype
    return LazyScores(layer.name, weight.numel(), read, dtype, weight.device, alive, layer.shard)
