"""Pruned weights are zero when the user's step returns, whoever else writes weights; or it is said."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import synaptic_pruning as sp
from helpers.combinations import in_turn
from helpers.optimizers import (
    SAM,
    Failing,
    HooksThatNeverRun,
    Lookahead,
    LookaheadWithoutHooks,
    NoisyAdamW,
    NoOptimizer,
    Together,
)
from helpers.small_network import loss_of, pruned_are_zero, small_net

RAMP = sp.ToSparsity(sp.cubic(0.8, begin=0.1, end=0.6))
TOTAL = 56
"""Of the 70 prunable weights of `small_net`: four fifths."""


def _with_closure(net: nn.Module, optimizer: Any, step: int) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(net, step)
        loss.backward()
        return loss

    optimizer.step(closure)


def _plainly(net: nn.Module, optimizer: Any, step: int) -> None:
    optimizer.zero_grad()
    loss_of(net, step).backward()
    optimizer.step()


def _in_two_steps(net: nn.Module, optimizer: Any, step: int) -> None:
    for half in (optimizer.first_step, optimizer.second_step):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        half()


def _of_adamw(kind: Callable[..., Any], **arguments: Any) -> Callable[[nn.Module], Any]:
    return lambda net: kind(AdamW(net.parameters(), lr=0.01), **arguments)


WRAPPERS = {
    "lookahead": (_of_adamw(Lookahead), _plainly),
    "lookahead by another name": (_of_adamw(Lookahead, attribute="base"), _plainly),
    "lookahead, closure": (_of_adamw(Lookahead), _with_closure),
    "lookahead of lookahead": (lambda net: Lookahead(Lookahead(SGD(net.parameters(), lr=0.1), k=2), k=3), _plainly),
    "sam": (lambda net: SAM(net.parameters()), _with_closure),
    "sam in two steps": (lambda net: SAM(net.parameters()), _in_two_steps),
    "several": (lambda net: Together(net.parameters()), _plainly),
    "subclass": (lambda net: NoisyAdamW(net.parameters(), lr=0.01), _plainly),
}


RULES = {"ramp": RAMP, "set": sp.SET(0.8), "rigl": sp.RigL(0.8)}


@in_turn(("name", "rule"), list(WRAPPERS), list(RULES))
def test_optimizers_that_hold_others(name: str, rule: str):
    make, take_step = WRAPPERS[name]
    net = small_net()
    AdamW(net.parameters())  # one such was made in this process, so that the base class of a subclass runs hooks
    optimizer = make(net)
    pruner = sp.SynapticPruner(net, optimizer, copy.deepcopy(RULES[rule]), total_steps=60, every=5)
    for step in range(1, 61):
        take_step(net, optimizer, step)
        assert pruner.steps == step
        assert pruned_are_zero(net, pruner)
    assert sum(int((~mask).sum()) for mask in pruner.masks().values()) == TOTAL
    assert pruner.finished
    assert loss_of(net) < loss_of(small_net())


@pytest.mark.parametrize("kind", [LookaheadWithoutHooks, HooksThatNeverRun, NoOptimizer])
def test_an_optimizer_that_runs_no_hooks_is_refused_and_nothing_has_changed(kind: Any):
    net = small_net()
    inner = Adam(net.parameters())
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=kind.__name__):
        sp.SynapticPruner(net, kind(inner), total_steps=10)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not inner._optimizer_step_pre_hooks
    assert not inner._optimizer_step_post_hooks
    sp.SynapticPruner(net, inner, total_steps=10)


def test_a_step_that_raised_is_none_and_the_next_one_counts():
    net = small_net()
    optimizer = Failing(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=20)
    SGD(net.parameters(), lr=0.1)
    for step in range(20):
        optimizer.fails = step in (3, 4, 9)
        try:
            _plainly(net, optimizer, step)
        except MemoryError:
            assert optimizer.fails
    assert pruner.steps == 17


def _warnings_of(train: Callable[[], None]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train()
    return [str(warning.message) for warning in caught]


def _half_pruned() -> tuple[nn.Module, SGD, sp.SynapticPruner]:
    net = small_net()
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    return net, optimizer, sp.SynapticPruner(net, optimizer, sp.SET(0.5), total_steps=40, every=4)


def test_the_optimizer_inside_was_given_and_the_one_around_it_writes():
    net, inner, pruner = _half_pruned()
    outer = Lookahead(inner)

    def train() -> None:
        for step in range(40):
            _plainly(net, outer, step)
            assert pruned_are_zero(net, pruner)

    (message,) = _warnings_of(train)
    assert "Lookahead" in message
    assert pruner.steps == 40


def test_the_optimizer_was_replaced():
    net, optimizer, pruner = _half_pruned()
    _plainly(net, optimizer, 0)
    other = AdamW(net.parameters(), lr=0.01)

    def train() -> None:
        for step in range(30):
            other.zero_grad()
            loss_of(net, step).backward()
            for p in net.parameters():
                p.grad.add_(0.1)  # as clipping by value or noise does
            other.step()
            assert pruned_are_zero(net, pruner)

    (message,) = _warnings_of(train)
    assert "AdamW" in message
    assert "SGD" in message


def test_two_pruners_share_an_optimizer_in_peace():
    net = small_net()
    optimizer = SGD(net.parameters(), lr=0.1)
    first = sp.SynapticPruner(net, optimizer, sp.SET(0.5), total_steps=10, include=["0.weight"])
    second = sp.SynapticPruner(net, optimizer, sp.SET(0.5), total_steps=10, include=["3.weight"])
    for step in range(5):
        _plainly(net, optimizer, step)
    first.remove()
    for step in range(5):
        _plainly(net, optimizer, step)
    assert (first.steps, second.steps) == (5, 10)


def _written(net: nn.Module) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01)


def _average(net: nn.Module) -> None:
    net.load_state_dict(small_net().state_dict())


def _cast(net: nn.Module) -> None:
    net.double().float()
    _written(net)


@pytest.mark.parametrize("write", [_written, _average, _cast])
@pytest.mark.parametrize("look", ["an event", "sparsity", "summary", "state_dict", "remove"])
def test_what_was_written_between_steps_is_zeroed_and_said_once(write: Callable[[nn.Module], None], look: str):
    net, optimizer, pruner = _half_pruned()
    for step in range(7):
        _plainly(net, optimizer, step)
    masks = pruner.masks()

    def interfere() -> None:
        for _ in range(1 if look == "remove" else 2):
            write(net)
            if look == "an event":
                for step in range(4):
                    _plainly(net, optimizer, step)
            else:
                getattr(pruner, look)()

    messages = _warnings_of(interfere)
    assert len([message for message in messages if "not zero" in message]) == 1
    now = pruner.masks()
    assert all(bool((net.get_parameter(name)[~mask] == 0).all()) for name, mask in now.items())
    assert masks.keys() == now.keys()


def test_after_remove_weights_may_move():
    net, optimizer, pruner = _half_pruned()
    for step in range(40):
        _plainly(net, optimizer, step)
    pruner.remove()
    _written(net)
    Adam(net.parameters()).step()
    assert pruner.sparsity() == 0.5
    assert all(bool((p != 0).all()) for p in net.parameters() if p.dim() == 2)


def test_a_training_that_never_steps_is_told():
    net, _, pruner = _half_pruned()

    def train() -> None:
        for step in range(300):
            loss_of(net, step).backward()
            with torch.no_grad():
                for p in net.parameters():
                    p.sub_(p.grad, alpha=0.1)
                    p.grad = None

    (message,) = _warnings_of(train)
    assert "256 backward passes and not one step of SGD" in message
    (message,) = _warnings_of(pruner.remove)
    assert "300 backward passes" in message


def test_accumulating_gradients_is_no_reason_for_a_word():
    net, optimizer, pruner = _half_pruned()
    for _ in range(2):
        for step in range(200):
            loss_of(net, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert pruner.steps == 2


ACTS = ["step", "step", "step", "skip", "load", "move", "cast", "wrap", "average", "swap", "write", "remove"]


@settings(max_examples=30, deadline=None)
@given(acts=st.lists(st.sampled_from(ACTS), min_size=4, max_size=30), grows=st.booleans())
def test_after_any_sequence_pruned_weights_are_zero_or_something_was_said(acts: list[str], grows: bool):
    net = small_net()
    optimizer: Optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    rule = sp.SET(0.5) if grows else sp.ToSparsity(sp.cubic(0.8, begin=0.0, end=0.5))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=20, every=2)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), pruner.state_dict()))
    said: list[str] = []
    removed = False

    def do(act: str) -> None:
        nonlocal optimizer, saved, removed
        if act == "step":
            _plainly(net, optimizer, pruner.steps)
            average.update_parameters(net)
        elif act == "skip":
            loss_of(net, 0).backward()
            optimizer.zero_grad()
        elif act == "load":
            for thing, state in zip((net, optimizer, pruner), saved, strict=True):
                thing.load_state_dict(copy.deepcopy(state))
        elif act == "move":
            net.to(torch.device("cpu"), non_blocking=True)
            for p in net.parameters():
                p.data = p.data.clone()
        elif act == "cast":
            net.double().float()
        elif act == "wrap":
            optimizer = Lookahead(optimizer, k=2)
        elif act == "average":
            net.load_state_dict(average.module.state_dict())
        elif act == "swap":
            pruner.apply_masks(average)
            net.load_state_dict(average.module.state_dict())
        elif act == "write":
            _written(net)
        else:
            pruner.remove()
            removed = True

    for act in acts:
        if removed:
            break
        try:
            said += _warnings_of(lambda act=act: do(act))  # type: ignore[misc]
        except ValueError as error:
            assert "was given weights after the pruner" in str(error)  # noqa: PT017  # before the first step
            return
        if act in ("step", "swap", "load"):
            assert pruned_are_zero(net, pruner)
        if act == "step":
            saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), pruner.state_dict()))
    if not removed and pruner.steps > 0:  # the first step refuses what was written before it
        said += _warnings_of(pruner.summary)
        assert pruned_are_zero(net, pruner)
    interfered = {"average", "write"} & set(acts)
    assert interfered or not any("not zero" in message for message in said if "wrap" not in acts)
