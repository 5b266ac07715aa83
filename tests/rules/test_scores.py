import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.rules.scores import Piece, find_score, magnitude, random, relative, starting_scales


def _random(seed: int, layer: int, start: int, size: int) -> torch.Tensor:
    return random(seed)(Piece(torch.zeros(size), None, layer, start))


def test_random_is_uniform_and_independent_of_cutting_layer_and_seed():
    whole = _random(0, 0, 0, 100_000)
    assert torch.equal(whole, torch.cat([_random(0, 0, 0, 777), _random(0, 0, 777, 100_000 - 777)]))
    assert stats.kstest(whole.double().numpy(), "uniform").pvalue > 0.01
    for other in (_random(1, 0, 0, 100_000), _random(0, 1, 0, 100_000), torch.roll(whole, 1)):
        assert abs(stats.pearsonr(whole.numpy(), other.numpy()).statistic) < 0.015


def test_scales_that_layers_start_with():
    net = nn.ModuleList([nn.Linear(4, 3), nn.Linear(2, 2), nn.Linear(1, 6), nn.Linear(2, 2), nn.Linear(2, 2)])
    with torch.no_grad():
        net[0].weight[0] = 0.0  # pruned earlier
        net[1].weight *= 0.01
        net[2].weight += 9.0
        net[3].weight.zero_()
        net[4].weight[0, 0] = float("inf")
    first, small, large = (net[i].weight.detach().double().numpy() for i in range(3))
    count = 8 + 4 + 6
    network = np.sqrt(((first**2).sum() + (small**2).sum() + (large**2).sum()) / count)
    expected = [np.sqrt((first**2).sum() / 8), np.sqrt((small**2).mean()), network, network, network]
    assert starting_scales(sp.Synapses(net)) == pytest.approx(expected, rel=1e-5)


def test_relative_scores_of_half_precision_are_not_rounded():
    weight = torch.tensor([60_000.0, -1.0], dtype=torch.float16)
    assert relative(Piece(weight, None, 0, 0, scale=0.1)).tolist() == pytest.approx([600_000 - 320, 10], rel=1e-3)


def test_find_score():
    assert find_score("magnitude") is magnitude
    assert find_score(magnitude) is magnitude
    named = "score='weight' is unknown; take one of magnitude, relative, usage, gradient, random"
    with pytest.raises(ValueError, match=named):
        find_score("weight")
