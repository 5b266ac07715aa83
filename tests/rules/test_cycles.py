from itertools import pairwise

import pytest
import torch
from torch import nn

import synaptic_pruning as sp


def _run(rule: sp.Cycles, steps: int = 60, every: int = 1) -> tuple[nn.Sequential, list[float], sp.SynapticPruner]:
    net = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=steps, every=every)
    sparsities = []
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(8, 10)
        (net(x) - x[:, :5]).square().mean().backward()
        optimizer.step()
        sparsities.append(pruner.sparsity())
    return net, sparsities, pruner


@pytest.mark.parametrize("every", [1, 7])
def test_every_member_has_the_sparsity_and_they_differ(every):
    rule = sp.Cycles(0.8, members=4, first=0.4, regrown=0.5)
    net, _, pruner = _run(rule, every=every)
    assert pruner.finished
    assert len(rule.states) == 4
    for state in rule.states:
        zeros = sum(int((state[name] == 0).sum()) for name in ("0.weight", "2.weight"))
        assert zeros == round(0.8 * 300)
    masks = [state["0.weight"] != 0 for state in rule.states]
    assert all((a != b).any() for a, b in pairwise(masks))
    for name, value in net.state_dict().items():
        assert torch.equal(rule.states[-1][name], value)
    twin = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5))
    twin.load_state_dict(rule.states[0])  # plain state dicts of the plain model


def test_sparsity_is_a_saw_tooth_by_hand():
    _, sparsities, pruner = _run(sp.Cycles(0.8, members=4, first=0.4, regrown=0.5))
    assert sparsities[12] == 0.8  # the first cycle ends at step 24, its ramp at 12
    assert sparsities[22] == 0.8
    for end in (24, 36, 48):  # then 12 steps each: growth, a ramp of 6 steps
        assert sparsities[end - 2] == 0.8
        assert sparsities[end - 1] == 0.5
        assert 0.5 < sparsities[end] < 0.8
        assert sparsities[end + 5] == 0.8
    assert sparsities[-1] == 0.8
    assert [curve["grown_at"] for curve in pruner.summary().survival] == [0, 24, 36, 48]
    assert pruner.summary().total.grown == 3 * 90


def test_growth_takes_the_largest_gradients_of_all_layers():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(net, optimizer, sp.Cycles(0.75, 2, first=0.5, regrown=0.5), total_steps=4, every=1)
    for step in range(2):
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        gradients = torch.cat([p.grad.abs().flatten() for p in net.parameters()])
        before = torch.cat([mask.flatten() for mask in pruner.masks().values()])
        optimizer.step()
        if step == 0:
            assert pruner.sparsity() == 0.75
    after = torch.cat([mask.flatten() for mask in pruner.masks().values()])
    born = after & ~before
    assert int(born.sum()) == 8
    assert gradients[born].min() > gradients[~after].max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity=1\.0"),
        ({"members": 1}, "members=1 must be at least 2"),
        ({"first": 1.0}, r"first=1\.0"),
        ({"regrown": 0.9}, r"regrown=0\.9 must be from 0 to below sparsity=0\.9"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.Cycles(**arguments)
