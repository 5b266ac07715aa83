"""Allocate a global sparsity to layers: Erdős–Rényi-kernel (ERK) shares, rounded to whole weights."""

from collections.abc import Sequence

from synaptic_pruning.core import Synapses


def erdos_renyi_kernel(synapses: Synapses, sparsity: float, max_layer_sparsity: float) -> list[int]:
    """Return how many weights of each layer are pruned, so that ``round(sparsity · N)`` are in all.

    The density of a layer is proportional to Σ dimensions / Π dimensions. Layers that would exceed density 1 stay
    dense, and the others share what that costs.

    Args:
        synapses: The prunable weights.
        sparsity: Of the whole network, in [0, 1).
        max_layer_sparsity: No layer goes above it, in (0, 1); where that binds, fewer weights are pruned.

    Source: Mocanu et al. (2018); for kernels, Evci et al. (2020), appendix A.

    Example:
        >>> from torch import nn
        >>> erdos_renyi_kernel(Synapses(nn.Sequential(nn.Linear(90, 10), nn.Linear(10, 10))), 0.5, 0.99)
        [483, 17]
    """
    sizes = [layer.size for layer in synapses.layers]
    raw = [sum(layer.parameter.shape) / size for layer, size in zip(synapses.layers, sizes, strict=True)]
    dense: set[int] = set()
    while True:
        alive = synapses.total * (1 - sparsity) - sum(sizes[i] for i in dense)
        sparse = [i for i in range(len(sizes)) if i not in dense]
        scale = alive / sum(raw[i] * sizes[i] for i in sparse) if sparse else 0.0
        full = {i for i in sparse if scale * raw[i] > 1}
        if not full:
            break
        dense |= full
    exact = [0.0 if i in dense else (1 - scale * raw[i]) * size for i, size in enumerate(sizes)]
    limits = [int(max_layer_sparsity * size) for size in sizes]
    return round_to_total(min(round(sparsity * synapses.total), sum(limits)), exact, [0] * len(sizes), limits)


def round_to_total(total: int, exact: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Round shares to whole numbers between ``least`` and ``most`` that sum to ``total``, nearest first.

    Example:
        >>> round_to_total(10, [3.4, 3.4, 3.2], [0, 0, 0], [9, 9, 9])
        [4, 3, 3]
    """
    rounded = [min(max(low, int(share)), high) for share, low, high in zip(exact, least, most, strict=True)]
    while sum(rounded) != total:
        step = 1 if sum(rounded) < total else -1
        movable = [i for i, limit in enumerate(most if step > 0 else least) if rounded[i] != limit]
        rounded[max(movable, key=lambda i: step * (exact[i] - rounded[i]))] += step
    return rounded
