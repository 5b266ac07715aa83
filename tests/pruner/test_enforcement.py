import copy

import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.pruner.enforcement import MaskEnforcer

ALIVE = torch.tensor([[False, False, False, True]])


def _pruned(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, MaskEnforcer]:
    net = nn.Linear(4, 1, bias=False, dtype=dtype)
    synapses = sp.Synapses(net)
    synapses.set_masks([ALIVE])
    return net, MaskEnforcer(synapses.layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_pruned_entries_are_plain_zeros_whatever_they_were(dtype):
    net, enforcer = _pruned(dtype)
    net.weight.data = torch.tensor([[float("inf"), -1.0, float("nan"), 2.0]], dtype=dtype)
    net.weight.grad = torch.full((1, 4), float("inf"), dtype=dtype)
    enforcer.mask_weights()
    enforcer.mask_gradients()
    assert net.weight.tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert not torch.signbit(net.weight).any()
    assert net.weight.grad.tolist() == [[0.0, 0.0, 0.0, float("inf")]]


def test_weights_that_moved_are_found_again():
    net, enforcer = _pruned()
    enforcer.mask_weights()
    net.weight.data = torch.ones(1, 4)
    enforcer.mask_weights()
    assert net.weight.tolist() == [[0, 0, 0, 1]]
    net.weight.data = torch.ones(4, 2)[:, :1].t()  # strided
    enforcer.mask_weights()
    assert net.weight.tolist() == [[0, 0, 0, 1]]


def test_backward_makes_no_gradient_of_a_pruned_weight():
    net, enforcer = _pruned()
    enforcer.start_at_backward()
    for accumulated in (1, 2):
        net(torch.ones(1, 4)).backward()
        assert net.weight.grad.tolist() == [[0, 0, 0, accumulated]]
    twin = copy.deepcopy(net)  # the hooks stay with the original
    twin.zero_grad()
    twin(torch.ones(1, 4)).backward()
    assert twin.weight.grad.tolist() == [[1, 1, 1, 1]]
    enforcer.stop_at_backward()
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


def test_gradients_set_by_hand_are_masked_before_the_step():
    net = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.75, at=0.1)), total_steps=10)
    for step in range(4):
        (net.weight.grad,) = torch.autograd.grad(net(torch.ones(1, 4)).sum(), [net.weight])
        optimizer.step()
        pruned = ~pruner.masks()["weight"]
        assert int(pruned.sum()) == 3
        if step > 0:
            assert net.weight.grad[pruned].tolist() == [0, 0, 0]
        assert optimizer.state[net.weight]["momentum_buffer"][pruned].tolist() == [0, 0, 0]
