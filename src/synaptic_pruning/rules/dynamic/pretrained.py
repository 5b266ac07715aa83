"""Tests that weights are still random, by their spectrum and their distribution; zeros that pruning has left."""

from collections.abc import Sequence

import torch
from torch import Tensor

from synaptic_pruning.core import PrunableParameter, Synapses, total

_TRAINED_RATIO = 1.2
_PRUNED_ZEROS = 0.05  # numbers drawn in half precision hold some
_FURTHEST_FROM_UNIFORM = 2.5  # Kolmogorov's statistic; uniform numbers exceed it once in a hundred thousand times
_DEVIATION = 0.02  # of normal weights in transformers
_SAMPLE = 4096  # weights a layer: enough to see what a few steps of training change
_ITERATIONS = 20  # of the power method; the directions of training are large enough to be found by then


@torch.no_grad()
def top_singular_ratio(weight: Tensor) -> float:
    """Return the largest singular value of a weight over what independent random entries of its size would have.

    Random entries of mean zero and size s (root mean square) give about s · (√rows + √columns), whatever their
    distribution; orthogonal, identity and zero weights give less. Learning adds a few strong directions: after a
    hundred steps of Adam the largest ratio in a small network is 1.2 to 2.

    Args:
        weight: Shape (rows, ...); what follows the first dimension counts as columns.

    Source: the edge of the Marchenko–Pastur law; that trained weights leave it, Martin and Mahoney (2021).

    Example:
        >>> weight = torch.nn.Linear(50, 80).weight
        >>> learnt = weight + torch.outer(torch.randn(80), torch.randn(50)) / 10
        >>> top_singular_ratio(weight) < 1.2 < top_singular_ratio(learnt)
        True
    """
    matrix = weight.detach().flatten(1).float()
    size = matrix.square().mean().sqrt()
    if matrix.numel() == 0 or not 0 < float(size) < float("inf"):
        return 0.0
    # Not from the global generator, whose numbers belong to the training.
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(matrix.shape[1], generator=generator, dtype=torch.float32, device="cpu").to(matrix.device)
    for _ in range(_ITERATIONS):
        direction = matrix.T @ (matrix @ (direction / direction.norm()))
    largest = (matrix @ (direction / direction.norm())).norm()
    return float(largest / size / (matrix.shape[0] ** 0.5 + matrix.shape[1] ** 0.5))


def find_pretrained(layers: Sequence[PrunableParameter]) -> str:
    """Return the name of the first of these layers that does not look freshly drawn, empty where all do.

    Such a layer has a `top_singular_ratio` above 1.2, or more than 5 % zeros, but not all, as pruning leaves them. Of a
    sharded layer that counts on any rank; every rank must call it. Layers that have learnt next to nothing look
    fresh, and so do those of very few inputs.
    """
    trained = torch.tensor([_looks_trained(layer.weight) for layer in layers], dtype=torch.int64, device="cpu")
    found = total(trained, [layer.shard for layer in layers])
    return next((layer.name for layer, n in zip(layers, found.tolist(), strict=True) if n), "")


def _looks_trained(weight: Tensor) -> bool:
    zeros = 1 - int(weight.count_nonzero()) / max(1, weight.numel())
    return _PRUNED_ZEROS < zeros < 1 or top_singular_ratio(weight) > _TRAINED_RATIO


@torch.no_grad()
def looks_drawn(layers: Sequence[PrunableParameter]) -> bool:
    """Return whether the weights look drawn as networks start: uniform in each layer, or normal by 0.02 in all.

    PyTorch's own layers start uniform around zero, those of transformers normal with a deviation of 0.02. Training
    leaves neither, however small a layer is. Other initialisations are neither too. Of a sharded layer, this rank's
    part is looked at.

    Source: the test of Kolmogorov and Smirnov on sizes relative to the largest of each layer, all layers together; or
    relative to that deviation.

    Example:
        >>> net = torch.nn.Linear(8, 64)
        >>> layers = Synapses(net).layers
        >>> fresh = looks_drawn(layers)
        >>> _ = net.weight.data.add_(torch.randn(64, 8) / 10)
        >>> fresh, looks_drawn(layers)
        (True, False)
    """
    flats = [layer.weight.detach().reshape(-1) for layer in layers]
    sizes = [flat[:: max(1, flat.numel() // _SAMPLE)].abs().double().cpu() for flat in flats if flat.numel()]
    if not sizes:
        return True
    every = torch.cat(sizes)
    uniform = torch.cat([some / some.max().clamp(min=1e-300) for some in sizes])
    return _fits_uniform(uniform) or _fits_uniform(torch.erf(every / _DEVIATION / 2**0.5))


def _fits_uniform(values: Tensor) -> bool:
    """Return whether numbers look uniform in [0, 1]."""
    steps = torch.arange(len(values) + 1, dtype=torch.float64, device="cpu") / len(values)
    ordered = values.sort().values
    distance = torch.maximum((ordered - steps[:-1]).abs(), (ordered - steps[1:]).abs()).max()
    return bool(distance * len(values) ** 0.5 <= _FURTHEST_FROM_UNIFORM)


def zeros_of_pruning(synapses: Synapses) -> list[int]:
    """Return how many zeros pruning has left in each layer, over all ranks: 0 for layers that are zero everywhere.

    Example:
        >>> net = torch.nn.Linear(4, 1)
        >>> _ = net.weight.data.copy_(torch.tensor([[0.0, 1.0, 0.0, 2.0]]))
        >>> zeros_of_pruning(Synapses(net))
        [2]
    """
    zeros = synapses.count_true([layer.weight.detach() == 0 for layer in synapses.layers])[0]
    return [0 if n == layer.size else n for n, layer in zip(zeros, synapses.layers, strict=True)]
