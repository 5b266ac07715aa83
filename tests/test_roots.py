"""Training must be the same, bit for bit, with and without the detour, and nothing may be left of it after a step."""

import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning import roots

RULE = sp.cubic(0.8, begin=0.1, end=0.6)


def _train(monkeypatch, optimizer, worth: int, dtype: torch.dtype = torch.float32, steps: int = 30):
    monkeypatch.setattr(roots, "_WORTH", worth)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 2)).to(dtype)
    optimizer = optimizer(net.parameters())
    lifted = []
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(RULE), total_steps=steps, every=2)
    # Seen by a hook between the pruner's own.
    optimizer.register_step_pre_hook(
        lambda o, *_: lifted.append(sum(int((s["exp_avg_sq"] == roots.least(dtype)).sum()) for s in o.state.values()))
    )
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(16, 20, dtype=dtype)).square().mean().backward()
        optimizer.step()
        for name, mask in pruner.masks().items():
            for value in optimizer.state[dict(net.named_parameters())[name]].values():
                assert value.dim() == 0 or (value[~mask] == 0).all()
    state = [value for s in optimizer.state.values() for value in s.values()]
    return (
        [*(p.detach() for p in net.parameters()), *state],
        lifted,
        sum(int((~m).sum()) for m in pruner.masks().values()),
    )


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL roots of zeros cost nothing")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True, weight_decay=0.1, maximize=True),
        lambda p: torch.optim.AdamW(p, lr=1e-2),
    ],
)
def test_nothing_changes_but_while_a_step_is_under_way(monkeypatch, optimizer, dtype):
    with_it, lifted, dead = _train(monkeypatch, optimizer, 1, dtype)
    without, untouched, _ = _train(monkeypatch, optimizer, 1 << 60, dtype)
    assert all(map(torch.equal, with_it, without))
    assert lifted[-1] == dead
    assert not any(untouched)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.Adam(p, eps=1e-12),
        lambda p: torch.optim.Adam(p, fused=True),
        lambda p: torch.optim.NAdam(p),
    ],
)
def test_other_optimizers_are_left_alone(monkeypatch, optimizer):
    assert not any(_train(monkeypatch, optimizer, 1)[1])


def test_other_dtypes_are_left_alone(monkeypatch):
    assert not any(_train(monkeypatch, torch.optim.Adam, 1, torch.bfloat16)[1])


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL roots of zeros cost nothing")
def test_a_living_weight_with_a_moment_of_next_to_nothing_takes_the_same_steps(monkeypatch):
    ends, smallest = [], []
    for worth in (1, 1 << 60):
        monkeypatch.setattr(roots, "_WORTH", worth)
        torch.manual_seed(0)
        net = nn.Linear(8, 8)
        optimizer = torch.optim.Adam(net.parameters())
        pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.1)), total_steps=40)
        for step in range(40):
            x = torch.randn(4, 8)
            x[:, 0] = 1e-20 if step < 20 else 0.0  # squares and their decay leave the normal numbers
            x[:, 1] = 0.0 if step < 30 else x[:, 1]  # nothing at first, then a first gradient
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        smallest.append(optimizer.state[net.weight]["exp_avg_sq"][pruner.masks()["weight"]].min())
        ends.append(net.weight.detach().clone())
    assert torch.equal(*ends)
    assert smallest[1] < torch.finfo(torch.float32).tiny <= smallest[0]  # or nothing was tried here


def test_moments_that_were_loaded_are_found(monkeypatch):
    monkeypatch.setattr(roots, "_WORTH", 1)
    net = nn.Linear(8, 8)
    optimizer = torch.optim.Adam(net.parameters())
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.1)), total_steps=10)
    for step in range(4):
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        net(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        assert (optimizer.state[net.weight]["exp_avg_sq"][~pruner.masks()["weight"]] == 0).all()
