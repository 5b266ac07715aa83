"""A hand-worked run of the released method."""

import pytest
import torch
from torch import nn

import synaptic_pruning as sp


def test_by_hand():
    # Ten weights of magnitude 1 to 10, five epochs, warm-up one epoch, 0.3 → 0.7.
    net = nn.Linear(10, 1, bias=False)
    net.weight.data = torch.tensor([[10.0, -1, 2, -9, 3, 8, -4, 7, 5, -6]])
    synapses = sp.Synapses(net)
    rule = sp.vos2025(initial=0.3, final=0.7, warmup=1 / 5, epochs=5)

    def gone(progress: float) -> set[int]:
        synapses.set_masks(rule.update(synapses, progress))
        return set(net.weight[~synapses.layers[0].alive].abs().int().tolist())

    assert gone(0.1) == set()
    # Epoch 1: s = .3, n = 3, threshold = 3rd smallest = 3, strictly below it: 1 and 2.
    assert gone(0.2) == {1, 2}
    # Asked again in the same epoch: n = 3 − 2 = 1, threshold = the smallest left = 3, nothing is below it.
    assert gone(0.3) == {1, 2}
    # Epoch 3: s = .3 + .4·(2/4)³ = .35, n = 3 − 2 = 1: nothing.
    assert gone(0.6) == {1, 2}
    # Epoch 4, the last: s = .3 + .4·(3/4)³ = .46875, n = 4 − 2 = 2, threshold = 4: 3 goes. 0.7 is never reached.
    assert gone(0.8) == {1, 2, 3}
    assert gone(1.0) == {1, 2, 3}


def test_ties_at_the_threshold_all_stay():
    net = nn.Linear(10, 1, bias=False)
    net.weight.data = torch.ones(1, 10)
    masks = sp.vos2025(initial=0.5, final=0.9, warmup=0.0, epochs=2).update(sp.Synapses(net), 0.1)
    assert masks[0].all()


def test_targets_beyond_one_are_refused():
    with pytest.raises(ValueError, match=r"final=1\.2 must be in"):
        sp.vos2025(initial=0.7, final=1.2)
    with pytest.raises(ValueError, match="epochs=0"):
        sp.vos2025(epochs=0)
