"""The rule that CONTRIBUTING.md works out, run as it stands there."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import synaptic_pruning as sp

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
STEPS = 20


@pytest.fixture(scope="module")
def rule() -> Any:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {"__name__": "worked_example"}
    exec(block, names)
    return names["MagnitudeIncrease"]


def _start(rule: Any) -> tuple[nn.Module, torch.optim.Optimizer, sp.SynapticPruner]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    return net, optimizer, sp.SynapticPruner(net, optimizer, rule(sp.cubic(0.8, end=0.5)), total_steps=STEPS)


def _learn(net: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


def test_by_hand(rule: Any):
    net = nn.Linear(4, 1, bias=False)
    net.weight.data = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    pruner = sp.SynapticPruner(net, optimizer, rule(sp.one_shot(0.5, at=0.5)), total_steps=2)
    net.weight.grad = torch.tensor([[-1.0, 0.0, -2.0, 3.5]])  # sizes become 2, 2, 5, 0.5
    optimizer.step()
    assert pruner.masks()["weight"].tolist() == [[True, False, True, False]]
    assert net.weight.tolist() == [[2.0, 0.0, 5.0, 0.0]]


def test_counts_are_exact_and_a_resumed_run_is_the_same(rule: Any):
    net, optimizer, pruner = _start(rule)
    for step in range(STEPS):
        _learn(net, optimizer, step, step + 1)
        assert pruner.synapses.count == 80 - round(sp.cubic(0.8, end=0.5)((step + 1) / STEPS) * 80)
        if step == 4:
            states = copy.deepcopy([part.state_dict() for part in (net, optimizer, pruner)])
    again = _start(rule)
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    _learn(*again[:2], 5, STEPS)
    assert all(torch.equal(a, b) for a, b in zip(again[0].parameters(), net.parameters(), strict=True))


def test_every_place_that_the_page_names_exists():
    root = Path(__file__).parents[2]
    source = root / "src" / "synaptic_pruning"
    names = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.[a-z]+)?)`", PAGE)
    assert len(names) > 15
    missing = [name for name in names if not (root / name).exists() and not (source / name).exists()]
    assert not missing
