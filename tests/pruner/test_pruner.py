import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import synaptic_pruning as sp


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 1))


def _train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()


def _started(total_steps: int = 20, **arguments):
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    return net, optimizer, sp.SynapticPruner(net, optimizer, total_steps=total_steps, **arguments)


def test_default_recipe():
    net, optimizer, pruner = _started(200)
    seen = []
    for _ in range(200):
        _train(net, optimizer, 1)
        seen.append((pruner.sparsity(), pruner.finished))
    ramp = sp.cubic(0.8, begin=0.0, end=0.5)
    events = [step if step >= 100 else step - step % 4 for step in range(1, 201)]  # fifty in 200 steps, and the end
    assert seen == [(pytest.approx(round(70 * ramp(event / 200)) / 70), event >= 100) for event in events]
    assert seen[-1] == (56 / 70, True)  # 0.8 · 70


@pytest.mark.parametrize(
    ("steps", "end"), [(1, 0.5), (150, 0.5), (400, 0.25), (1000, 0.1), (2000, 0.05), (1_000_000, 0.05)]
)
def test_the_default_ramp_takes_a_hundred_steps_or_more(steps: int, end: float):
    rule = sp.default_rule(0.6, total_steps=steps)
    assert (rule.end, rule.schedule.final) == (end, 0.6)
    net = _net()
    assert sp.SynapticPruner(net, torch.optim.Adam(net.parameters()), 0.6, total_steps=steps).rule == rule


@pytest.mark.parametrize("value", [None, True, 80, 1, 0.995, -0.1, float("nan"), "0.5", sp.SET])
def test_what_is_neither_a_rule_nor_a_sparsity(value: object):
    net = _net()
    with pytest.raises(ValueError, match=r"^rule=.* must be a rule such as SET\(0\.8\), or the final sparsity"):
        sp.SynapticPruner(net, torch.optim.Adam(net.parameters()), value, total_steps=5)  # type: ignore[arg-type]


def test_the_length_of_the_default_is_checked():
    with pytest.raises(ValueError, match=r"total_steps=0 must be a whole number"):
        sp.default_rule(total_steps=0)


def test_the_last_event_comes_even_between_two_regular_ones():
    net, optimizer, pruner = _started(20, rule=sp.ToSparsity(sp.linear(0.5, end=0.55)), every=7)
    _train(net, optimizer, 10)
    assert not pruner.finished
    _train(net, optimizer, 1)
    assert pruner.finished
    assert pruner.sparsity() == 0.5


class _Noting(sp.Rule):
    """Notes the progress at which it is asked."""

    end = None

    def __init__(self, end: float) -> None:
        self.end, self.asked = end, []

    def update(self, synapses, progress):
        self.asked.append(progress)
        return [layer.alive for layer in synapses.layers]


@given(
    total=st.integers(1, 40),
    every=st.integers(1, 45),
    end=st.floats(0, 1) | st.integers(0, 10).map(lambda tenths: tenths / 10),
    resumed=st.integers(0, 40),
)
def test_events_are_every_so_many_steps_and_once_at_the_end(total, every, end, resumed):
    net, rule = nn.Linear(1, 1), _Noting(end)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=total, every=every)
    expected, over = [], False
    for step in range(1, total + 1):
        if step == resumed:
            pruner.load_state_dict(pruner.state_dict())
        optimizer.step()
        if not over and (step % every == 0 or step / total >= end):
            expected.append(step / total)
            over = step / total >= end
    assert rule.asked == expected
    assert pruner.finished == over


def test_pruned_weights_have_no_influence():
    """Training the pruned network equals training a network that never had those weights."""
    net, optimizer, pruner = _started(10, rule=sp.ToSparsity(sp.one_shot(0.6, at=0.1)), compensate=1)
    _train(net, optimizer, 1)
    masks = pruner.masks()
    thin = _net()
    thin.load_state_dict(net.state_dict())
    for name, p in thin.named_parameters():
        if name in masks:
            p.register_hook(lambda gradient, mask=masks[name]: gradient * mask)
    thin_optimizer = torch.optim.Adam(thin.parameters())
    thin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    state = torch.get_rng_state()
    _train(net, optimizer, 9)
    torch.set_rng_state(state)
    _train(thin, thin_optimizer, 9)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), thin.parameters(), strict=True))


def test_closures():
    net = _net()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)
    pruner = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.2)), total_steps=5)
    x = torch.randn(5, 6)

    def closure():
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert pruner.steps == 5
    assert all((dict(net.named_parameters())[name][~mask] == 0).all() for name, mask in pruner.masks().items())


def test_remove_leaves_plain_zeros_that_may_move_again():
    net, optimizer, pruner = _started()
    _train(net, optimizer, 20)
    pruner.remove()
    pruner.remove()
    assert (net[0].weight == 0).sum() > 40
    _train(net, optimizer, 3)
    assert (net[0].weight == 0).sum() == 0
    sp.SynapticPruner(
        net, optimizer, sp.ToSparsity(sp.cubic(0.5)), total_steps=5
    )  # the parameters are free for another


def test_two_pruners_on_one_parameter():
    net, optimizer, pruner = _started()
    with pytest.raises(ValueError, match=r"0\.weight is already pruned by another SynapticPruner"):
        sp.SynapticPruner(net, optimizer, total_steps=5)
    pruner.remove()
    ramp = sp.ToSparsity(sp.cubic(0.9))
    first = sp.SynapticPruner(net, optimizer, ramp, total_steps=5, include=["0.weight"])
    second = sp.SynapticPruner(net, optimizer, ramp, total_steps=5, exclude=["0.weight"])
    assert (len(first.masks()), len(second.masks())) == (1, 1)


def test_an_optimizer_and_pruner_dropped_together_free_their_parameters():
    net, optimizer, pruner = _started()
    del optimizer, pruner
    sp.SynapticPruner(net, torch.optim.Adam(net.parameters()), total_steps=5)


def test_an_optimizer_that_lacks_parameters():
    net = _net()
    optimizer = torch.optim.Adam(net[0].parameters())
    with pytest.raises(ValueError, match=r"the optimizer lacks 1 prunable parameters, such as 2\.weight"):
        sp.SynapticPruner(net, optimizer, total_steps=5)
    sp.SynapticPruner(net, optimizer, total_steps=5, exclude=["2.*"])


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "10"])
@pytest.mark.parametrize("argument", ["total_steps", "every"])
def test_bad_step_numbers(argument, value):
    net = _net()
    with pytest.raises(ValueError, match=f"{argument}={value!r} must be a whole number"):
        sp.SynapticPruner(net, torch.optim.Adam(net.parameters()), **{"total_steps": 5, argument: value})


def test_training_longer_or_shorter_than_said():
    net, optimizer, pruner = _started(5)
    with pytest.warns(UserWarning, match="this is step 6 but total_steps=5"):
        _train(net, optimizer, 6)
    _train(net, optimizer, 3)  # said once
    net, optimizer, pruner = _started(100, rule=sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8)))
    _train(net, optimizer, 12)
    with pytest.warns(UserWarning, match="training ended at step 12 of total_steps=100, before the end of the ramp"):
        pruner.remove()
    net, optimizer, pruner = _started(100)  # as sparse as it will be from half of it on
    _train(net, optimizer, 50)
    pruner.remove()


def test_nan_weights_stop_the_event_and_leave_the_masks():
    net, optimizer, pruner = _started(10, rule=sp.ToSparsity(sp.one_shot(0.5, at=0.5)))
    _train(net, optimizer, 4)
    net[2].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"weight holds NaN"):
        _train(net, optimizer, 1)
    assert pruner.sparsity() == 0


def test_checkpoint_of_another_model():
    _, _, pruner = _started()
    other = nn.Sequential(nn.Linear(6, 11), nn.Tanh(), nn.Conv1d(10, 1, 1))
    state = sp.SynapticPruner(other, torch.optim.Adam(other.parameters()), total_steps=20).state_dict()
    before = pruner.masks()
    with pytest.raises(
        ValueError, match=r"another model: 0\.weight is \(10, 6\) here but \(11, 6\) in .*; 2\.weight is"
    ):
        pruner.load_state_dict(state)
    state["masks"]["3.weight"] = state["masks"].pop("2.weight")
    state["shapes"]["3.weight"] = state["shapes"].pop("2.weight")
    with pytest.raises(ValueError, match=r"2\.weight is missing in the checkpoint; 3\.weight is missing in the model"):
        pruner.load_state_dict(state)
    with pytest.raises(ValueError, match="format None"):
        pruner.load_state_dict({"state": {}})
    assert all(torch.equal(mask, before[name]) for name, mask in pruner.masks().items())


def test_another_length_is_said():
    rule = sp.ToSparsity(sp.cubic(0.9, begin=0.05, end=0.5))
    net, optimizer, pruner = _started(20, rule=rule)
    _train(net, optimizer, 15)
    state = pruner.state_dict()
    pruner.remove()
    net, optimizer, pruner = _started(40, rule=rule)
    with pytest.warns(UserWarning, match="total_steps=20 and this pruner has 40"):
        pruner.load_state_dict(state)
    assert (net[0].weight[~pruner.masks()["0.weight"]] == 0).all()


def test_apply_masks_refuses_another_model():
    _, _, pruner = _started()
    with pytest.raises(ValueError, match=r"no parameter 0\.weight of shape \(10, 6\)"):
        pruner.apply_masks(nn.Linear(6, 10))


def test_masks_in_the_checkpoint_take_one_bit_a_weight():
    net = nn.Linear(1000, 100)
    pruner = sp.SynapticPruner(net, torch.optim.SGD(net.parameters(), lr=0.1), total_steps=5)
    assert pruner.state_dict()["masks"]["weight"].nbytes == 12_500


def test_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net, optimizer, pruner = _started(6)
        _train(net, optimizer, 6)
        pruner.remove()
