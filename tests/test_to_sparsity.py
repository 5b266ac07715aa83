import numpy as np
import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.rules.to_sparsity import shares


def _network(*weights: list[list[float]]) -> sp.Synapses:
    layers = [nn.Linear(len(w[0]), len(w), bias=False) for w in weights]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight.data = torch.tensor(w)
    return sp.Synapses(nn.Sequential(*layers))


def test_global_by_hand():
    synapses = _network([[1.0, -5.0], [0.2, 3.0]], [[0.1, -0.2], [4.0, 2.0]])
    masks = sp.ToSparsity(sp.one_shot(0.375)).update(synapses, 1.0)  # round(0.375 · 8) = 3 weights
    assert masks[0].tolist() == [[True, True], [False, True]]  # of the two at 0.2 both fit
    assert masks[1].tolist() == [[False, False], [True, True]]


def test_layer_by_hand():
    synapses = _network([[1.0, -5.0], [0.2, 3.0]], [[0.1, -0.2], [4.0, 2.0]])
    masks = sp.ToSparsity(sp.one_shot(0.5), scope="layer").update(synapses, 1.0)
    assert masks[0].tolist() == [[False, True], [False, True]]
    assert masks[1].tolist() == [[False, False], [True, True]]


def test_cap_moves_the_rest_to_the_other_layers():
    small, large = [[0.01, 0.02, 0.03, 0.04]], [[1.0, 2.0, 3.0, 4.0]]
    masks = sp.ToSparsity(sp.one_shot(0.5), max_layer_sparsity=0.75).update(_network(small, large), 1.0)
    assert masks[0].tolist() == [[False, False, False, True]]
    assert masks[1].tolist() == [[False, True, True, True]]


def test_a_layer_is_never_emptied_by_default():
    tiny = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 2))
    tiny[1].weight.data *= 1e-6
    masks = sp.ToSparsity(sp.one_shot(0.97)).update(sp.Synapses(tiny), 1.0)
    assert [int(mask.sum()) for mask in masks] == [304, 2]  # 3 % of 10,200 is 306; the cap leaves 2 of 200


def test_gradient_score_by_hand_and_its_absence():
    synapses = _network([[1.0, 10.0, 3.0]])
    rule = sp.ToSparsity(sp.one_shot(0.34), score="gradient")
    with pytest.raises(ValueError, match="found no gradient"):
        rule.update(synapses, 1.0)
    synapses.layers[0].parameter.grad = torch.tensor([[1.0, -0.05, 1.0]])
    assert rule.update(synapses, 1.0)[0].tolist() == [[True, False, True]]


def test_own_score():
    rule = sp.ToSparsity(sp.one_shot(0.34), score=lambda piece: piece.weight)  # signed: the lowest go
    assert rule.update(_network([[1.0, -10.0, 3.0]]), 1.0)[0].tolist() == [[True, False, True]]


def test_nan_names_the_parameter():
    with pytest.raises(ValueError, match=r"^1\.weight holds NaN"):
        sp.ToSparsity(sp.one_shot(0.5)).update(_network([[1.0, 2.0]], [[float("nan"), 1.0]]), 1.0)


def test_shares_are_whole_and_near_and_never_fall():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 30, rng.integers(1, 6)).tolist()
        taken = [0] * len(sizes)
        for target in np.sort(rng.random(5)):
            total = max(sum(taken), round(target * sum(sizes)))
            later = shares(total, [target * size for size in sizes], taken, sizes)
            assert sum(later) == total
            assert all(a <= b <= size for a, b, size in zip(taken, later, sizes, strict=True))
            assert all(abs(b - target * size) < 2 for b, size in zip(later, sizes, strict=True))
            taken = later


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "best"}, "score='best' is unknown"),
        ({"scope": "row"}, "scope='row' is unknown"),
        ({"max_layer_sparsity": 0}, "max_layer_sparsity=0 must be in"),
        ({"max_layer_sparsity": 0.8}, r"ends at 0\.9, above max_layer_sparsity=0\.8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.ToSparsity(sp.cubic(0.9), **arguments)
