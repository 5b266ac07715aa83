import math

import pytest
import torch
from torch import nn

import synaptic_pruning as sp


def test_scores_by_hand_over_windows():
    """Eight connections of usage 0 … 7, weights held still; every term of the update worked out beside it."""
    net = nn.Linear(8, 1, bias=False)
    nn.init.ones_(net.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    rule = sp.Survival(cost=1.5, initial=3.0, period=2, end=1.0)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=20, every=1)
    used = [float(i) for i in range(8)]
    scores, alive = [3.0] * 8, [True] * 8
    for window in range(12):
        net(torch.tensor([used])).sum().backward()
        optimizer.step()
        left = sorted(u for u, a in zip(used, alive, strict=True) if a)
        top = left[math.ceil(0.75 * len(left)) - 1]
        weight = math.exp(-math.floor((window - 5) / 2))
        for i in range(8):
            if alive[i]:
                scores[i] = 0.999 * scores[i] + (2 * min(used[i] / top, 1) - 1.5) * weight
        for i in range(8):
            alive[i] = alive[i] and scores[i] >= 0
        assert pruner.masks()["weight"].flatten().tolist() == alive
    assert 2 <= sum(alive) < 8


def test_convolutions_pay_their_own_price():
    net = nn.Sequential(nn.Conv1d(1, 6, 3), nn.Flatten(), nn.Linear(24, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    rule = sp.Survival(cost=0.0, conv_cost=1.9, initial=1.0)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=10, every=1)
    for _ in range(10):
        net(torch.rand(5, 1, 6)).sum().backward()
        optimizer.step()
    conv, linear = pruner.summary().rows
    assert conv.sparsity > 0.4
    assert conv.unreached_units == 0
    assert linear.sparsity == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": -1.0}, r"cost=-1\.0 must be at least 0"),
        ({"conv_cost": float("nan")}, "conv_cost=nan"),
        ({"period": 0}, "period=0 must be at least 1 window"),
        ({"initial": 0.0}, r"initial=0\.0 must be above 0"),
        ({"sample": 0}, "sample=0"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.Survival(**arguments)
