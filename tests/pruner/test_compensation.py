"""Learning rates follow the density while a step runs, and nobody outside of steps sees it."""

import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode

import synaptic_pruning as sp
from helpers.combinations import in_turn
from helpers.optimizers import SAM, Failing, Lookahead, NoisyAdamW, Together
from helpers.processes.killed_runs import differences
from helpers.small_network import learn_step, loss_of, small_net

TOTAL, STEPS, EVERY = 70, 24, 3
RAMP = sp.cubic(0.9, begin=0.05, end=0.5)
ROOT = math.sqrt(10)  # one weight in ten is alive at the end


def _alive(step: int) -> int:
    """Weights alive before a step, counted from 0: worked out from the schedule alone."""
    event = step - step % EVERY
    return TOTAL - round(RAMP(event / STEPS) * TOTAL)


def _factor(step: int, cap: float) -> float:
    return min(math.sqrt(TOTAL / _alive(step)), cap)


def _pruner(net: nn.Module, optimizer: Any, compensate: float = 4.0, **arguments: Any) -> sp.SynapticPruner:
    arguments = {"total_steps": STEPS, "every": EVERY, **arguments}
    return sp.SynapticPruner(net, optimizer, sp.ToSparsity(RAMP), compensate=compensate, **arguments)


class Seen(SGD):
    """Notes the rates that its steps run at."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rates: list[list[float]] = []

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        self.rates.append([float(group["lr"]) for group in self.param_groups])
        super().step()
        return loss


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.5),
    "lbfgs": lambda p: LBFGS(p, lr=0.1, max_iter=3),
    "tensor": lambda p: Adam(p, lr=torch.tensor(0.01)),
    "tensor, fused": lambda p: AdamW(p, lr=torch.tensor(0.01, dtype=torch.float64), fused=True),
}


def _closure(net: nn.Module, optimizer: Optimizer, step: int) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(net, step)
        loss.backward()
        return loss

    return closure


def _set(optimizer: Optimizer, rates: list[Any]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


@in_turn(("name", "cap"), list(OPTIMIZERS), [4.0, 100.0, 1.5])
def test_it_trains_like_a_loop_that_sets_the_rates_by_hand(name: str, cap: float):
    ends = []
    for by_hand in (False, True):
        net = small_net()
        body, head = net[0].parameters(), net[3].parameters()
        groups = net.parameters() if name == "lbfgs" else [{"params": body}, {"params": head}]
        optimizer = OPTIMIZERS[name](groups)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        pruner = _pruner(net, optimizer, 1.0 if by_hand else cap)
        told = []
        for step in range(STEPS):
            told.append((_rates(optimizer), list(map(float, scheduler.get_last_lr()))))
            base = [group["lr"] for group in optimizer.param_groups]
            if by_hand:
                _set(optimizer, [rate * _factor(step, cap) for rate in base])
            optimizer.step(_closure(net, optimizer, step))
            if by_hand:
                _set(optimizer, base)
            told.append((_rates(optimizer), list(map(float, scheduler.get_last_lr()))))
            scheduler.step()
        assert pruner.sparsity() == 0.9
        ends.append({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "told": told})
    assert differences(*ends) == []


def test_the_rates_of_a_step_worked_out_by_hand():
    net = small_net()
    optimizer = Seen([{"params": net[0].parameters()}, {"params": net[3].parameters(), "lr": 0.5}], lr=0.125)
    rule = sp.ToSparsity(sp.one_shot(0.5, at=0.5))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=4, every=1, compensate=4)
    for step in range(4):
        learn_step(net, optimizer, step)
        assert _rates(optimizer) == [0.125, 0.5]
    # 35 of 70 weights go after the second step: from the third on the rates are √2 times as high.
    assert optimizer.rates[:2] == [[0.125, 0.5]] * 2
    assert np.array(optimizer.rates[2:]) == pytest.approx(np.sqrt([[1 / 32, 1 / 2]] * 2))
    assert pruner.sparsity() == 0.5


def test_a_group_added_later_and_accumulated_gradients():
    net = small_net()
    optimizer = Seen(net[0].parameters(), lr=0.1)
    _pruner(net, optimizer, 4.0, include=["0.weight"])
    optimizer.add_param_group({"params": list(net[3].parameters()), "lr": 0.2})
    for step in range(STEPS):
        for rows in (slice(0, 4), slice(4, 8)):
            loss_of(net, step, rows).backward()
            assert _rates(optimizer) == [0.1, 0.2]
        optimizer.step()
        optimizer.zero_grad()
    assert len(optimizer.rates) == STEPS
    assert optimizer.rates[-1] == pytest.approx([0.1 * ROOT, 0.2 * ROOT])


def test_one_that_is_off_touches_nothing():
    net = small_net()
    optimizer, rate = SGD(net.parameters()), 0.1234567
    optimizer.param_groups[0]["lr"] = rate
    pruner = _pruner(net, optimizer, 1)
    assert "step" not in vars(optimizer)
    for step in range(STEPS):
        learn_step(net, optimizer, step)
        assert optimizer.param_groups[0]["lr"] is rate
    assert pruner.sparsity() == 0.9


@pytest.mark.parametrize(
    ("rule", "factor"),
    [
        (lambda: 0.8, math.sqrt(5)),
        (lambda: sp.SET(0.5), math.sqrt(2)),
        (lambda: sp.ToSparsity(sp.one_shot(0.95, at=0.5)), 4),
        (lambda: sp.vos2025(initial=0.3, final=0.7, warmup=0.1), 1),
        (sp.Disuse, 1),
        (lambda: sp.Units(sp.one_shot(0.5, at=0.5)), 1),
    ],
)
def test_a_rule_brings_its_own_limit(rule, factor):
    net = small_net()
    optimizer = Seen(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, rule(), total_steps=40, every=1)
    for step in range(40):
        learn_step(net, optimizer, step)
    assert optimizer.rates[-1] == pytest.approx([0.1 * factor], rel=0.01)
    assert pruner.sparsity() > 0 or isinstance(pruner.rule, sp.Disuse)


def test_where_it_cannot_compensate_a_rule_leaves_rates_alone():
    net = small_net()
    optimizer = Seen(net.parameters(), lr=0.1)
    rule = lambda: sp.ToSparsity(sp.one_shot(0.5, at=0.25))  # noqa: E731
    for name in ("0.weight", "3.weight"):  # the first one raises the rates
        sp.SynapticPruner(net, optimizer, rule(), total_steps=4, every=1, include=[name])
    for step in range(4):
        learn_step(net, optimizer, step)
    assert optimizer.rates[-1] == pytest.approx([0.1 * math.sqrt(2)], rel=0.02)
    net = small_net()
    without = torch.optim.Adafactor(net.parameters())
    for group in without.param_groups:
        group["lr"] = None  # as optimizers that find their own
    pruner = sp.SynapticPruner(net, without, rule(), total_steps=4, every=1)
    assert all(group["lr"] is None for group in without.param_groups)
    assert pruner.steps == 0


def test_a_dense_network_is_trained_at_its_own_rate():
    net = small_net()
    optimizer = Seen(net.parameters(), lr=0.1)
    sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=1.0)), total_steps=10, compensate=4.0)
    for step in range(9):
        learn_step(net, optimizer, step)
    assert optimizer.rates == [[0.1]] * 9


def test_a_closure_sees_the_rate_that_the_user_set_and_may_set_another():
    net = small_net()
    optimizer = Seen(net.parameters(), lr=0.25)
    rule = sp.ToSparsity(sp.one_shot(0.5, at=0.25))
    sp.SynapticPruner(net, optimizer, rule, total_steps=4, every=1, compensate=4.0)
    seen: list[float] = []

    def closure() -> Tensor:
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["lr"] = 0.25 + len(seen)
        return _closure(net, optimizer, 0)()

    for _ in range(3):
        optimizer.step(closure)
    assert seen == [0.25, 1.25, 2.25]
    assert [rate for (rate,) in optimizer.rates] == pytest.approx([1.25, 2.25 * math.sqrt(2), 3.25 * math.sqrt(2)])
    assert optimizer.param_groups[0]["lr"] == 3.25


WRAPPERS: dict[str, Callable[[nn.Module], tuple[Optimizer, Seen]]] = {}


def _wrapped(make: Callable[[nn.Module], tuple[Any, Any]]) -> None:
    WRAPPERS[make.__name__] = make


@_wrapped
def lookahead(net: nn.Module) -> tuple[Any, Any]:
    inner = Seen(net.parameters(), lr=0.5)
    return Lookahead(Lookahead(inner)), inner


@_wrapped
def with_shared_groups(net: nn.Module) -> tuple[Any, Any]:
    inner = Seen(net.parameters(), lr=0.5)
    outer = Lookahead(inner)
    outer.param_groups = inner.param_groups
    return outer, inner


@_wrapped
def sam(net: nn.Module) -> tuple[Any, Any]:
    outer = SAM(net.parameters())
    outer.base_optimizer = Seen(outer.param_groups[0]["params"], lr=0.5)
    return outer, outer.base_optimizer


@_wrapped
def several(net: nn.Module) -> tuple[Any, Any]:
    outer = Together(net.parameters())
    outer.parts[1] = Seen([p for p in net.parameters() if p.dim() < 2], lr=0.5)
    return outer, outer.parts[1]


@pytest.mark.parametrize("name", WRAPPERS)
def test_one_inside_another_is_raised_once(name: str):
    net = small_net()
    outer, inner = WRAPPERS[name](net)
    pruner = _pruner(net, outer)
    for step in range(STEPS):
        if name == "sam" and step % 2:
            for half in (outer.first_step, outer.second_step):
                _closure(net, outer, step)()
                half()
        else:
            outer.step(_closure(net, outer, step))
        assert inner.param_groups[0]["lr"] == 0.5
    assert inner.rates == [[0.5 * _factor(step, 4)] for step in range(STEPS)]
    assert pruner.steps == STEPS


def test_a_subclass_that_calls_its_base_is_raised_once():
    ends = []
    for by_hand in (False, True):
        net = small_net()
        AdamW(net.parameters())
        optimizer = NoisyAdamW(net.parameters(), lr=0.01)
        _pruner(net, optimizer, 1 if by_hand else 4)
        for step in range(STEPS):
            torch.manual_seed(step)
            if by_hand:
                _set(optimizer, [0.01 * _factor(step, 4)])
            learn_step(net, optimizer, step)
        ends.append(net.state_dict())
    assert differences(*ends) == []


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("guarded", [True, False])
def test_a_step_that_raises_puts_the_rate_back(tensor: bool, guarded: bool):
    """At once, or where something else was put in the place of the guarded step, before the next one."""
    net = small_net()
    optimizer = Failing(net.parameters(), lr=torch.tensor(0.1) if tensor else 0.1)
    _pruner(net, optimizer, 4)
    before = optimizer.param_groups[0]["lr"]
    value = float(before)
    if not guarded:
        del optimizer.step  # as Accelerate does, whose scaler swaps it for the one that it found
    for step in range(STEPS):
        optimizer.fails = step in (5, 20, 21)
        try:
            learn_step(net, optimizer, step)
        except MemoryError:
            assert optimizer.fails
            assert not guarded or float(optimizer.param_groups[0]["lr"]) == value
        else:
            assert float(optimizer.param_groups[0]["lr"]) == value
        assert not tensor or optimizer.param_groups[0]["lr"] is before


def test_a_closure_that_raises_leaves_the_rate():
    net = small_net()
    optimizer = LBFGS(net.parameters(), lr=0.1)
    _pruner(net, optimizer)
    for step in range(12):
        optimizer.step(_closure(net, optimizer, step))

    def fails() -> Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        optimizer.step(fails)
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_mixed_precision_skips(fused: bool):
    ends = []
    for by_hand in (False, True):
        net = small_net()
        optimizer = AdamW(net.parameters(), lr=0.01, fused=fused)
        pruner = _pruner(net, optimizer, 1 if by_hand else 4)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for step in range(STEPS):
            if by_hand:
                _set(optimizer, [0.01 * _factor(pruner.steps, 4)])
            optimizer.zero_grad()
            scaler.scale(loss_of(net, step) * (float("inf") if step % 4 == 3 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
            assert by_hand or optimizer.param_groups[0]["lr"] == 0.01
        assert pruner.steps == STEPS * 3 // 4
        ends.append(net.state_dict())
    assert differences(*ends) == []


def test_a_rate_shared_by_groups_is_raised_once_and_never_read():
    class Reads(TorchDispatchMode):
        """Fails on what would wait for a device."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    net = small_net()
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = Seen([{"params": [p]} for p in net.parameters()], lr=rate)
    pruner = _pruner(net, optimizer)
    for step in range(STEPS):
        learn_step(net, optimizer, step)
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate == torch.tensor(0.1, dtype=torch.float64)
    assert optimizer.rates[-1] == pytest.approx([0.1 * ROOT] * 4)
    with Reads():
        pruner._compensation.begin()
        pruner._compensation.end()


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 5, gamma=0.5),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=STEPS + 1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
}


@pytest.mark.parametrize("first", ["pruner", "scheduler"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_see_the_base_rate_whoever_comes_first(name: str, first: str):
    seen = []
    for compensate in (1, 4):
        net = small_net()
        optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        if first == "pruner":
            pruner = _pruner(net, optimizer, compensate)
        scheduler = SCHEDULERS[name](optimizer)
        if first == "scheduler":
            pruner = _pruner(net, optimizer, compensate)
        told = []
        for step in range(STEPS):
            learn_step(net, optimizer, step)
            told.append((scheduler.get_last_lr(), _rates(optimizer)))
            scheduler.step()
            told.append((scheduler.get_last_lr(), _rates(optimizer)))
        pruner.remove()
        learn_step(net, optimizer, 0)
        seen.append(told)
    assert seen[0] == seen[1]


def test_remove_leaves_the_optimizer_as_it_was():
    net = small_net()
    optimizer = Seen(net.parameters(), lr=0.1)
    pruner = _pruner(net, optimizer)
    for step in range(STEPS):
        learn_step(net, optimizer, step)
    pruner.remove()
    assert "step" not in vars(optimizer)
    again = _pruner(net, optimizer, earlier=pruner.state_dict())
    learn_step(net, optimizer, 0)
    assert optimizer.rates[-1] == pytest.approx([0.1 * ROOT])  # the masks of the earlier training
    again.remove()
    learn_step(net, optimizer, 0)
    assert optimizer.rates[-1] == [0.1]


def test_two_pruners_of_one_optimizer_may_not_both_compensate():
    net = small_net()
    inner = Seen(net.parameters(), lr=0.1)
    outer = Lookahead(inner)
    first = _pruner(net, outer, 4, include=["0.weight"])
    hooks = len(inner._optimizer_step_pre_hooks)
    for optimizer in (outer, inner):
        with pytest.raises(ValueError, match="would multiply them twice; give one of the two compensate=1"):
            _pruner(net, optimizer, 2, include=["3.weight"])
    assert len(inner._optimizer_step_pre_hooks) == hooks
    second = _pruner(net, outer, 1, include=["3.weight"])
    for step in range(STEPS):
        learn_step(net, outer, step)
    assert inner.rates[-1] == pytest.approx([0.1 * ROOT])
    first.remove()
    second.remove()
    _pruner(net, outer, 2, include=["3.weight"], earlier=second.state_dict())
    learn_step(net, outer, 0)
    assert inner.rates[-1] == pytest.approx([0.2])


@in_turn(("order", "name"), list(itertools.permutations(range(3))), ["adam", "tensor"])
def test_a_resumed_run_goes_on_bit_for_bit_and_the_checkpoint_holds_the_base_rate(name: str, order: tuple[int, ...]):
    def start() -> tuple[nn.Module, Optimizer, sp.SynapticPruner]:
        net = small_net()
        optimizer = OPTIMIZERS[name](net.parameters())
        return net, optimizer, _pruner(net, optimizer)

    parts = start()
    file = io.BytesIO()
    for step in range(STEPS):
        if step == 10:
            torch.save([part.state_dict() for part in parts], file)
        learn_step(*parts[:2], step)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    assert states[1]["param_groups"][0]["lr"] == (torch.tensor(0.01) if name == "tensor" else 0.01)
    again = start()
    for place in order:
        again[place].load_state_dict(states[place])
    for step in range(10, STEPS):
        learn_step(*again[:2], step)
    assert differences([part.state_dict() for part in again], [part.state_dict() for part in parts]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "tensor"])
def test_a_compiled_step(name: str):
    ends = []
    for compiled in (False, True):
        torch._dynamo.reset()
        net = small_net()
        optimizer = OPTIMIZERS[name](net.parameters())
        _pruner(net, optimizer)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for number in range(STEPS):
            optimizer.zero_grad()
            loss_of(net, number).backward()
            step()
            assert _rates(optimizer) == [pytest.approx(0.01)]
        ends.append({name: value.clone() for name, value in net.state_dict().items()})
    for name, value in ends[0].items():  # compiled or not, a step of Adam differs in its last bits
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-5)


def test_an_optimizer_that_sets_its_own_rate_is_told_of():
    class Decays(Seen):
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            super().step(closure)
            self.param_groups[0]["lr"] *= 0.5

    net = small_net()
    optimizer = Decays(net.parameters(), lr=0.1)
    _pruner(net, optimizer)
    for step in range(3):
        learn_step(net, optimizer, step)
    optimizer.param_groups[0]["lr"] = 0.1
    with pytest.warns(UserWarning, match=r"Decays\.step\(\) sets its own learning rate.*set compensate=1"):
        learn_step(net, optimizer, 3)
    for step in range(4, 9):  # said once: a second warning would be an error
        learn_step(net, optimizer, step)
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("value", [0.5, 0, -1, float("nan"), float("inf"), True, "4", 1j])
def test_refused_factors(value: Any):
    net = small_net()
    optimizer = SGD(net.parameters())
    with pytest.raises(ValueError, match=r"compensate=.* must be a finite number of at least 1"):
        _pruner(net, optimizer, value)
    assert not optimizer._optimizer_step_pre_hooks
    _pruner(net, optimizer)


def test_an_optimizer_without_a_rate_is_refused():
    net = small_net()
    outer = Lookahead(SGD(net.parameters()))
    outer.inner.param_groups[0]["lr"] = None
    with pytest.raises(ValueError, match="Lookahead has no learning rate lr"):
        _pruner(net, outer)
    assert not outer._optimizer_step_pre_hooks
    _pruner(net, outer, 1)
