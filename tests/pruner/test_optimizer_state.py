"""What optimizers keep of pruned weights does not outlive them, whatever form it has."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

import synaptic_pruning as sp
from helpers.small_network import loss_of, pruned_are_zero, small_net

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.02),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02, amsgrad=True),
    "Adamax": lambda p: optim.Adamax(p, lr=0.02),
    "NAdam": lambda p: optim.NAdam(p, lr=0.02),
    "RAdam": lambda p: optim.RAdam(p, lr=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "Adadelta": lambda p: optim.Adadelta(p, lr=5.0),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.05),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Rprop": lambda p: optim.Rprop(p, lr=0.01),
    "ASGD": lambda p: optim.ASGD(p, lr=0.1),
    "LBFGS": lambda p: optim.LBFGS(p, line_search_fn="strong_wolfe"),
    "LBFGS without a line search": lambda p: optim.LBFGS(p, lr=0.5),
    "LBFGS of one parameter": lambda p: optim.LBFGS(list(p)[:1], line_search_fn="strong_wolfe"),
}


def _descend(net: nn.Module, optimizer: optim.Optimizer, steps: int) -> float:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return float(loss_of(net).detach())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_was_kept_before_an_event_does_no_harm_after_it(name: str):
    net = small_net()
    optimizer = OPTIMIZERS[name](net.parameters())
    include = ["0.weight"]
    pruner = sp.SynapticPruner(
        net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.1)), total_steps=100, every=10, include=include
    )
    _descend(net, optimizer, 10)
    assert pruner.finished
    start = float(loss_of(net).detach())
    assert _descend(net, optimizer, 40) < start / 2
    assert pruned_are_zero(net, pruner)


def test_lbfgs_converges_after_half_of_the_weights_went():
    """Its directions from before the event lead nowhere: the loss stood still with them."""
    torch.manual_seed(0)
    x = torch.randn(64, 10)
    y = x @ torch.randn(10, 1)
    net = nn.Sequential(nn.Linear(10, 100), nn.Tanh(), nn.Linear(100, 1))
    optimizer = optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe")
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.2)), total_steps=50, every=10)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        return loss

    for _ in range(20):
        loss = optimizer.step(closure)
    assert pruner.sparsity() == 0.5
    assert float(loss.detach()) < 5e-4
