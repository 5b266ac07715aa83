"""What a pruner tells of itself, held against masks that are compared by hand after every step."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.small_network import STEPS, learn_step, small_net

RULES: dict[str, Callable[[], sp.Rule | float]] = {
    "ramp": lambda: 0.8,
    "set": lambda: sp.SET(0.6),
    "granet": lambda: sp.GraNet(0.8, begin=0.1, ramp_end=0.7),
    "cycles": lambda: sp.Cycles(0.8, members=3, first=0.5),
    "disuse": lambda: sp.Disuse(patience=1, threshold=0.5),
}


class _Planned(sp.Rule):
    """Takes one mask after the other."""

    grows = True
    end = 1.0

    def __init__(self, masks: list[list[int]]) -> None:
        self._masks = [torch.tensor([mask]).bool() for mask in masks]

    def update(self, synapses: sp.Synapses, progress: float) -> list[Tensor]:
        return [self._masks.pop(0)]


def _planned(masks: list[list[int]], **arguments: Any) -> tuple[nn.Module, torch.optim.Optimizer, sp.SynapticPruner]:
    net = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, _Planned(masks), total_steps=len(masks), every=1, **arguments)
    return net, optimizer, pruner


def _step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    net(torch.ones(1, 8)).sum().backward()
    optimizer.step()


PLAN = [
    [1, 1, 1, 1, 1, 0, 0, 0],  # three pruned
    [0, 1, 1, 1, 1, 1, 1, 0],  # one pruned, two grown
    [0, 1, 1, 1, 1, 1, 1, 0],  # nothing
    [0, 0, 0, 0, 0, 0, 1, 1],  # five pruned, one grown
]


def test_counts_are_those_since_the_last_call_by_hand():
    net, optimizer, pruner = _planned(PLAN)
    seen = []
    for log in (True, False, True, True):
        _step(net, optimizer)
        if log:
            values = pruner.log()
            seen.append((values["sparsity/total"], values["pruning/pruned"], values["pruning/grown"]))
    assert seen == [(3 / 8, 3, 0), (2 / 8, 1, 2), (6 / 8, 5, 1)]
    again = pruner.log()
    assert (again["sparsity/total"], again["pruning/pruned"], again["pruning/grown"]) == (6 / 8, 0, 0)


@pytest.mark.parametrize("name", RULES)
def test_counts_of_every_call_add_up_to_what_the_masks_show(name: str):
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    pruner = sp.SynapticPruner(net, optimizer, RULES[name](), total_steps=STEPS, every=2)
    before, pruned, grown, told = pruner.masks(), 0, 0, [0.0, 0.0]
    for step in range(STEPS):
        learn_step(net, optimizer, step)
        after = pruner.masks()
        pruned += sum(int((before[name] & ~mask).sum()) for name, mask in after.items())
        grown += sum(int((mask & ~before[name]).sum()) for name, mask in after.items())
        before = after
        if step % 5 == 0 or step == STEPS - 1:
            values = pruner.log()
            told = [told[0] + values["pruning/pruned"], told[1] + values["pruning/grown"]]
            zeros = sum(int((~mask).sum()) for mask in after.values())
            assert values["sparsity/total"] == pytest.approx(zeros / 70)
    assert told == [pruned, grown]
    assert pruned > 0
    assert (grown > 0) == pruner.rule.grows


def test_the_factor_is_the_one_that_the_optimizer_steps_with():
    net = small_net()
    optimizer, rates = torch.optim.SGD(net.parameters(), lr=0.5), []
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.linear(0.8, end=1.0)), total_steps=8, every=2)
    optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    factors = []
    for step in range(8):
        factors.append(pruner.log()["pruning/rate_factor"])
        learn_step(net, optimizer, step)
    assert rates == [0.5 * factor for factor in factors]
    assert pruner.log()["pruning/rate_factor"] == pytest.approx(math.sqrt(70 / 14))
    *_, uncompensated = _planned([PLAN[0]], compensate=1)
    assert uncompensated.log()["pruning/rate_factor"] == 1


def test_the_share_that_no_rule_sees_by_hand():
    frozen = nn.Linear(10, 10).requires_grad_(False)
    net = nn.Sequential(nn.Embedding(20, 10), frozen, nn.LayerNorm(10), nn.Linear(10, 10), nn.Linear(10, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, total_steps=10, exclude=["3.*"])
    assert pruner.log()["pruning/not_prunable"] == (200 + 100 + 100) / (200 + 100 + 100 + 20)


def test_a_resumed_pruner_counts_from_its_checkpoint():
    net, optimizer, pruner = _planned(PLAN)
    for _ in range(2):
        _step(net, optimizer)
    state = copy.deepcopy(pruner.state_dict())
    assert state.keys() == _planned(PLAN)[2].state_dict().keys()
    net, optimizer, resumed = _planned(PLAN[2:] * 2, state=state)
    assert (resumed.last_event, resumed.steps) == (2, 2)
    assert (resumed.log()["pruning/pruned"], resumed.log()["pruning/grown"]) == (0, 0)
    for _ in range(2):
        _step(net, optimizer)
    values = resumed.log()
    assert (values["pruning/pruned"], values["pruning/grown"]) == (5, 1)
    resumed.load_state_dict(state)
    assert resumed.log()["pruning/pruned"] == 0


def test_the_last_event_is_the_step_at_which_the_rule_was_asked():
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters())
    rule = sp.Disuse(patience=100, end=0.9)  # prunes nothing: an event all the same
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=10, every=4)
    seen = []
    for step in range(10):
        learn_step(net, optimizer, step)
        seen.append(pruner.last_event)
    assert seen == [0, 0, 0, 4, 4, 4, 4, 8, 9, 9]
    assert pruner.log()["pruning/pruned"] == 0


def test_a_log_changes_nothing_and_waits_for_no_check():
    net, optimizer, pruner = _planned(PLAN)
    _step(net, optimizer)
    with torch.no_grad():
        net.weight[0, 7] = 1.0  # pruned: sparsity() would warn and zero it
    pruner.log()
    repr(pruner)
    assert net.weight[0, 7] == 1.0
    with pytest.warns(UserWarning, match="were not zero"):
        pruner.sparsity()


def test_the_page_names_every_number():
    page = (Path(__file__).parents[2] / "docs" / "guides" / "logging.md").read_text()
    assert re.findall(r"^\| `(\S+)` \|", page, re.M) == list(_planned(PLAN)[2].log())


def test_a_representation_is_one_line_of_what_is():
    net, optimizer, pruner = _planned(PLAN)
    assert repr(pruner) == (
        "<SynapticPruner with _Planned: 0.0 % sparsity, 8 of 8 weights alive, step 0 of 4, not finished>"
    )
    for _ in range(4):
        _step(net, optimizer)
    assert (
        repr(pruner) == "<SynapticPruner with _Planned: 75.0 % sparsity, 2 of 8 weights alive, step 4 of 4, finished>"
    )
    wide = nn.Linear(1000, 20)
    fresh = sp.SynapticPruner(wide, torch.optim.SGD(wide.parameters(), lr=0.1), sp.SET(0.8), total_steps=12345)
    assert repr(fresh) == (
        "<SynapticPruner with SET: 80.0 % sparsity, 4,000 of 20,000 weights alive, step 0 of 12,345, not finished>"
    )
