"""Training must be the same, bit for bit, with and without the detour; what is saved or looked at in the end too."""

import copy

import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.pruner import adam_moments as roots

RULE = sp.cubic(0.8, begin=0.1, end=0.6)
STEPS, EVERY = 48, 3  # events do not fall together with the steps at which moments are raised


def _start(optimizer, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 2)).to(dtype)
    optimizer = optimizer(net.parameters())
    return net, optimizer, sp.SynapticPruner(net, optimizer, sp.ToSparsity(RULE), total_steps=STEPS, every=EVERY)


def _step(net, optimizer, step: int) -> None:
    """One step on the step's own batch, in which an input or two are zero all along, and so are some moments."""
    x = torch.randn(16, 20, dtype=net[0].weight.dtype, generator=torch.Generator().manual_seed(step))
    x[:, :2] = 0
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()


def _remembered(net, optimizer, pruner, alive: bool = False) -> list:
    """Everything of dead weights, or of living ones, that the optimizer holds at this moment."""
    named = dict(net.named_parameters())
    pairs = [(optimizer.state[named[name]], mask == alive) for name, mask in pruner.masks().items()]
    return [value[mask] for state, mask in pairs for value in state.values() if value.dim()]


def _train(monkeypatch, optimizer, worth: int, dtype: torch.dtype = torch.float32):
    monkeypatch.setattr(roots, "_WORTH", worth)
    net, optimizer, pruner = _start(optimizer, dtype)
    lifted = []
    # Seen by a hook between the pruner's own.
    optimizer.register_step_pre_hook(
        lambda *_: lifted.append(sum(int((v == 0).sum()) for v in _remembered(net, optimizer, pruner)))
    )
    weights = []
    for step in range(STEPS):
        before = pruner.sparsity()
        _step(net, optimizer, step)
        weights += [p.detach().clone() for p in net.parameters()]
        if pruner.sparsity() > before:
            assert not any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
        assert all((value <= roots.least(dtype)).all() for value in _remembered(net, optimizer, pruner))
    assert not any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
    # Of a living weight that never had a gradient a moment of next to nothing is all that may differ.
    state = [v.masked_fill(v.abs() <= roots.least(dtype), 0) for s in optimizer.state.values() for v in s.values()]
    dead = sum(int((~m).sum()) for m in pruner.masks().values())
    return [*weights, *state], lifted, dead


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
def test_no_weight_is_another_and_nothing_is_left(monkeypatch, optimizer, dtype):
    with_it, lifted, dead = _train(monkeypatch, optimizer, 1, dtype)
    without, untouched, _ = _train(monkeypatch, optimizer, 1 << 60, dtype)
    assert all(map(torch.equal, with_it, without))
    assert lifted[-1] == dead  # of two numbers for every dead weight one is zero
    assert untouched[-1] == 2 * dead


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
    assert _train(monkeypatch, optimizer, 1)[1] == _train(monkeypatch, optimizer, 1 << 60)[1]


def test_other_dtypes_are_left_alone(monkeypatch):
    _, lifted, dead = _train(monkeypatch, torch.optim.Adam, 1, torch.bfloat16)
    assert lifted[-1] == 2 * dead


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


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL roots of zeros cost nothing")
@pytest.mark.parametrize("at", [17, 18, 20])  # an event at 18; moments are raised before steps 17 and 33 besides
def test_what_is_saved_is_exact_and_a_resumed_run_remembers_the_same(monkeypatch, at):
    monkeypatch.setattr(roots, "_WORTH", 1)
    net, optimizer, pruner = _start(torch.optim.Adam)
    for step in range(at):
        _step(net, optimizer, step)
    raised = any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
    assert raised == (at % EVERY != 0)
    saved = copy.deepcopy([net.state_dict(), optimizer.state_dict(), pruner.state_dict()])
    assert not any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
    again = _start(torch.optim.Adam)
    for part, state in zip(again, saved, strict=True):
        part.load_state_dict(state)
    whole = _start(torch.optim.Adam)
    for step in range(at):
        _step(*whole[:2], step)
    for step in range(at, 40):
        for some in (again, whole):
            _step(*some[:2], step)
        assert all(map(torch.equal, _remembered(*again, alive=True), _remembered(*whole, alive=True)))
    ours, theirs = (some[1].state_dict()["state"].values() for some in (again, whole))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(ours, theirs, strict=True) for key in a)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL roots of zeros cost nothing")
def test_saving_midway_changes_nothing(monkeypatch):
    monkeypatch.setattr(roots, "_WORTH", 1)
    ends = []
    for saves in (False, True):
        net, optimizer, _ = _start(torch.optim.Adam)
        for step in range(40):
            _step(net, optimizer, step)
            if saves:
                optimizer.state_dict()
        optimizer.state_dict()
        ends.append([*net.parameters(), *(v for s in optimizer.state.values() for v in s.values())])
    assert all(map(torch.equal, *ends))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL roots of zeros cost nothing")
def test_moments_that_were_loaded_are_found_and_a_removed_pruner_leaves_zeros(monkeypatch):
    monkeypatch.setattr(roots, "_WORTH", 1)
    net, optimizer, pruner = _start(torch.optim.Adam)
    for step in range(20):
        _step(net, optimizer, step)
    optimizer.load_state_dict(optimizer.state_dict())
    assert not any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
    for step in range(20, 23):
        _step(net, optimizer, step)
    assert any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
    with pytest.warns(UserWarning, match="before the end of the ramp"):
        pruner.remove()
    assert not any(map(torch.count_nonzero, _remembered(net, optimizer, pruner)))
