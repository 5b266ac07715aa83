import math

import pytest
import torch
from torch import nn

import synaptic_pruning as sp


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10), nn.Tanh(), nn.Linear(10, 2))


def _started(rule: sp.Rule, total_steps: int = 40, every: int = 4):
    net = _net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    return net, optimizer, sp.SynapticPruner(net, optimizer, rule, total_steps=total_steps, every=every)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    x = torch.randn(16, 20)
    (net(x) - x[:, :2]).square().mean().backward()
    optimizer.step()


def test_start_follows_the_erdos_renyi_rule():
    """Densities by hand: the last layer (20 weights) and the middle one are capped by nothing at 50 %."""
    _, _, pruner = _started(sp.SET(0.7))
    weights, alive = [600, 300, 20], [int(mask.sum()) for mask in pruner.masks().values()]
    assert sum(alive) == 920 - round(0.7 * 920)
    # Σ dims: 50, 40, 12. Scale from 276 = scale · 102 gives 135.3, 108.2 and 32.5 > 20: the last stays dense.
    scale = (276 - 20) / 90
    assert alive[2] == 20
    assert alive[:2] == [pytest.approx(scale * 50, abs=1), pytest.approx(scale * 40, abs=1)]
    assert all(a <= w for a, w in zip(alive, weights, strict=True))


@pytest.mark.parametrize("kind", [sp.SET, sp.RigL])
def test_swaps_are_counted_by_hand(kind):
    net, optimizer, pruner = _started(kind(0.7, drop=0.4, end=0.8))
    before = pruner.masks()
    for step in range(1, 41):
        weights = {}
        gradients = {}

        def spy(opt: torch.optim.Optimizer, *_: object, into=weights) -> None:
            into.update({n: p.detach().clone() for n, p in net.named_parameters()})

        first = optimizer.register_step_post_hook(spy)
        optimizer._optimizer_step_post_hooks.move_to_end(first.id, last=False)  # before the pruner's own hook
        optimizer.zero_grad()
        x = torch.randn(16, 20)
        (net(x) - x[:, :2]).square().mean().backward()
        gradients = {n: p.grad.abs().clone() for n, p in net.named_parameters()}
        optimizer.step()
        first.remove()
        masks = pruner.masks()
        progress = step / 40
        for name, mask in masks.items():
            old = before[name]
            died, born = old & ~mask, mask & ~old
            alive = int(old.sum())
            fraction = 0.2 * (1 + math.cos(math.pi * progress / 0.8)) if step % 4 == 0 and progress < 0.8 else 0.0
            swapped = min(round(fraction * alive), old.numel() - alive)
            assert int(died.sum()) == int(born.sum()) == swapped
            if swapped:
                kept = old & mask
                assert weights[name][died].abs().max() <= weights[name][kept].abs().min()
                if kind is sp.RigL:
                    still = ~old & ~mask
                    assert not still.any() or gradients[name][born].min() >= gradients[name][still].max()
        before = masks
    assert pruner.finished
    assert pruner.sparsity() == pytest.approx(0.7)


def test_random_growth_differs_between_events_and_agrees_between_runs():
    births = []
    for _ in range(2):
        torch.manual_seed(5)
        net, optimizer, pruner = _started(sp.SET(0.7))
        history = []
        for _ in range(12):
            before = pruner.masks()["0.weight"]
            _step(net, optimizer)
            history.append((pruner.masks()["0.weight"] & ~before).nonzero().tolist())
        births.append(history)
    assert births[0] == births[1]
    assert births[0][3] != births[0][7]


def test_new_connections_learn_and_their_lives_are_told():
    net, optimizer, pruner = _started(sp.RigL(0.7))
    for _ in range(40):
        _step(net, optimizer)
    total = pruner.summary().total
    assert total.grown == total.pruned > 50
    assert total.mean_age < 40
    for mask, p in zip(pruner.masks().values(), [net[0].weight, net[2].weight, net[4].weight], strict=True):
        assert (p[mask] != 0).float().mean() > 0.95
    curves = pruner.summary().survival
    # The swap at step 28 rounds to nothing, and from 30 on there is none.
    assert [curve["grown_at"] for curve in curves] == [0, 4, 8, 12, 16, 20, 24]
    assert sum(curve["alive"][-1] * curve["size"] for curve in curves) == pytest.approx(total.alive)
    assert all(a >= b for curve in curves for a, b in zip(curve["alive"], curve["alive"][1:], strict=False))


def test_gradual_pruning_grows_back_what_pruning_took():
    net, optimizer, pruner = _started(sp.GraNet(0.8, begin=0.1, ramp_end=0.5), 60, 3)
    ramp = sp.cubic(0.8, begin=0.1, end=0.5)
    for step in range(1, 61):
        _step(net, optimizer)
        if step % 3 == 0:
            assert int((1 - pruner.sparsity()) * 920 + 0.5) == 920 - round(ramp(step / 60) * 920)
    assert pruner.summary().total.grown > 20


def test_a_scaled_start_keeps_the_variance_of_sums_over_inputs():
    """A layer that keeps n of N weights has the survivors' values times √(N/n), and the rest stays as it was."""
    torch.manual_seed(3)
    plain = _net()
    scaled = _net()
    scaled.load_state_dict(plain.state_dict())
    bias = plain[0].bias.detach().clone()
    for net, wanted in ((plain, False), (scaled, True)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        sp.SynapticPruner(net, optimizer, sp.RigL(0.7, scaled_start=wanted), total_steps=40)
    for one, other in zip(plain, scaled, strict=True):
        if isinstance(one, nn.Linear):
            left = int((one.weight != 0).sum())
            torch.testing.assert_close(other.weight, one.weight * math.sqrt(one.weight.numel() / left))
    assert torch.equal(scaled[0].bias, bias)


def test_a_resumed_training_is_not_scaled_again():
    torch.manual_seed(3)
    rule = lambda: sp.RigL(0.7, scaled_start=True)  # noqa: E731
    net, optimizer, pruner = _started(rule())
    for _ in range(10):
        _step(net, optimizer)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    state, moments = pruner.state_dict(), optimizer.state_dict()
    resumed = _net()
    resumed.load_state_dict(weights)
    again = torch.optim.Adam(resumed.parameters(), lr=0.01)
    again.load_state_dict(moments)
    sp.SynapticPruner(resumed, again, rule(), total_steps=40, every=4, state=state)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, weights[name]), name
    pruner.remove()
    later = torch.optim.Adam(net.parameters(), lr=0.01)
    sp.SynapticPruner(net, later, rule(), total_steps=40, every=4, earlier=state)
    assert torch.equal(net[0].weight, weights["0.weight"])


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        (sp.RigL(0.7), 0),
        (sp.SET(0.7), 0),
        (sp.GraNet(0.7, begin=0.1, ramp_end=0.5), 32),  # half of 60 is 30; the next event is at 32
        (sp.ToSparsity(sp.cubic(0.7, begin=0.1, end=0.5)), 30),
    ],
)
def test_the_ramp_is_finished_at_the_first_step_as_sparse_as_the_last(rule, first):
    net, optimizer, pruner = _started(rule, 60, 4)
    seen = [(pruner.ramp_finished, pruner.sparsity())]
    for _ in range(60):
        _step(net, optimizer)
        seen.append((pruner.ramp_finished, pruner.sparsity()))
    final = pruner.sparsity()
    assert [step for step, (done, _) in enumerate(seen) if done] == list(range(first, 61))
    assert all(value == final for done, value in seen if done)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.SET(0.0), r"sparsity=0\.0 must be above 0"),
        (lambda: sp.SET(0.995), r"sparsity=0\.995 .* max_layer_sparsity=0\.99"),
        (lambda: sp.RigL(0.9, drop=1.0), r"drop=1\.0"),
        (lambda: sp.RigL(0.9, end=0.0), r"end=0\.0"),
        (lambda: sp.SET(0.9, max_layer_sparsity=1.0), "would empty a layer"),
        (lambda: sp.GraNet(0.9, ramp_end=0.9), r"ramp_end=0\.9 must be at most end=0\.75"),
        (lambda: sp.GraNet(0.9, scaled_start=True), "GraNet starts dense"),
    ],
)
def test_bad_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class _Reviver(sp.Rule):
    end = 1.0

    def update(self, synapses, progress):
        return [torch.ones_like(layer.alive) for layer in synapses.layers]

    def attach(self, model, synapses):
        return [torch.zeros_like(layer.alive) for layer in synapses.layers]


def test_a_rule_must_say_that_it_grows():
    net, optimizer, pruner = _started(_Reviver(), every=1)
    with pytest.raises(ValueError, match=r"_Reviver revived weights of 0\.weight without grows = True"):
        _step(net, optimizer)
    assert pruner.sparsity() == 1


def test_a_checkpoint_of_another_rule_is_refused_whole():
    _, _, one = _started(sp.SET(0.7))
    _, _, other = _started(sp.Disuse())
    with pytest.raises(ValueError, match="made with the rule SET and this pruner has Disuse"):
        other.load_state_dict(one.state_dict())
    assert other.sparsity() == 0
