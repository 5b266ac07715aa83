import pytest
import torch
from scipy import stats

from synaptic_pruning.rules.scores import Piece, find_score, magnitude, random


def _random(seed: int, layer: int, start: int, size: int) -> torch.Tensor:
    return random(seed)(Piece(torch.zeros(size), None, layer, start))


def test_random_is_uniform_and_independent_of_cutting_layer_and_seed():
    whole = _random(0, 0, 0, 100_000)
    assert torch.equal(whole, torch.cat([_random(0, 0, 0, 777), _random(0, 0, 777, 100_000 - 777)]))
    assert stats.kstest(whole.double().numpy(), "uniform").pvalue > 0.01
    for other in (_random(1, 0, 0, 100_000), _random(0, 1, 0, 100_000), torch.roll(whole, 1)):
        assert abs(stats.pearsonr(whole.numpy(), other.numpy()).statistic) < 0.015


def test_find_score():
    assert find_score("magnitude") is magnitude
    assert find_score(magnitude) is magnitude
    with pytest.raises(ValueError, match="score='weight' is unknown; take one of magnitude, usage, gradient, random"):
        find_score("weight")
