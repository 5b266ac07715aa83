import copy

import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.pruner.enforcement import Silence

ALIVE = torch.tensor([[False, False, False, True]])


def _pruned(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, Silence]:
    net = nn.Linear(4, 1, bias=False, dtype=dtype)
    synapses = sp.Synapses(net)
    synapses.keep([ALIVE])
    return net, Silence(synapses.layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dead_entries_are_plain_zeros_whatever_they_were(dtype):
    net, silence = _pruned(dtype)
    net.weight.data = torch.tensor([[float("inf"), -1.0, float("nan"), 2.0]], dtype=dtype)
    net.weight.grad = torch.full((1, 4), float("inf"), dtype=dtype)
    silence.weights()
    silence.gradients()
    assert net.weight.tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert not torch.signbit(net.weight).any()
    assert net.weight.grad.tolist() == [[0.0, 0.0, 0.0, float("inf")]]


def test_weights_that_moved_are_found_again():
    net, silence = _pruned()
    silence.weights()
    net.weight.data = torch.ones(1, 4)
    silence.weights()
    assert net.weight.tolist() == [[0, 0, 0, 1]]
    net.weight.data = torch.ones(4, 2)[:, :1].t()  # strided
    silence.weights()
    assert net.weight.tolist() == [[0, 0, 0, 1]]


def test_backward_makes_no_gradient_of_a_dead_weight():
    net, silence = _pruned()
    silence.at_backward()
    for accumulated in (1, 2):
        net(torch.ones(1, 4)).backward()
        assert net.weight.grad.tolist() == [[0, 0, 0, accumulated]]
    twin = copy.deepcopy(net)  # the hooks stay with the original
    twin.zero_grad()
    twin(torch.ones(1, 4)).backward()
    assert twin.weight.grad.tolist() == [[1, 1, 1, 1]]
    silence.not_at_backward()
    net.zero_grad()
    net(torch.ones(1, 4)).backward()
    assert net.weight.grad.tolist() == [[1, 1, 1, 1]]


def test_a_dropped_pruner_leaves_gradients_alone():
    net = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.75, at=0.1)), total_steps=10)
    net(torch.ones(1, 4)).backward()
    optimizer.step()
    assert pruner.sparsity() == 0.75
    del optimizer, pruner
    sp.SynapticPruner(net, torch.optim.SGD(net.parameters(), lr=0.1), total_steps=5)  # collects what was dropped
    net.zero_grad()
    net(torch.ones(1, 4)).backward()
    assert (net.weight.grad == 1).all()


def test_gradients_set_by_hand_are_silenced_before_the_step():
    net = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.75, at=0.1)), total_steps=10)
    for step in range(4):
        (net.weight.grad,) = torch.autograd.grad(net(torch.ones(1, 4)).sum(), [net.weight])
        optimizer.step()
        dead = ~pruner.masks()["weight"]
        assert int(dead.sum()) == 3
        if step > 0:
            assert net.weight.grad[dead].tolist() == [0, 0, 0]
        assert optimizer.state[net.weight]["momentum_buffer"][dead].tolist() == [0, 0, 0]
