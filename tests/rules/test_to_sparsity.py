import numpy as np
import pytest
import torch
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.rules.allocation import round_to_total


def _network(*weights: list[list[float]]) -> sp.Synapses:
    layers = [nn.Linear(len(w[0]), len(w), bias=False) for w in weights]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight.data = torch.tensor(w)
    return sp.Synapses(nn.Sequential(*layers))


def test_global_by_hand():
    synapses = _network([[1.0, -5.0], [0.2, 3.0]], [[0.1, -0.2], [4.0, 2.0]])
    masks = sp.ToSparsity(sp.one_shot(0.375)).update(synapses, 1.0)  # round(0.375 · 8) = 3 weights
    assert masks[0].tolist() == [[True, True], [False, True]]  # of the two at 0.2 both fit
    assert masks[1].tolist() == [[False, False], [True, True]]


def test_layer_by_hand():
    synapses = _network([[1.0, -5.0], [0.2, 3.0]], [[0.1, -0.2], [4.0, 2.0]])
    masks = sp.ToSparsity(sp.one_shot(0.5), scope="layer").update(synapses, 1.0)
    assert masks[0].tolist() == [[False, True], [False, True]]
    assert masks[1].tolist() == [[False, False], [True, True]]


def test_cap_moves_the_rest_to_the_other_layers():
    small, large = [[0.01, 0.02, 0.03, 0.04]], [[1.0, 2.0, 3.0, 4.0]]
    masks = sp.ToSparsity(sp.one_shot(0.5), max_layer_sparsity=0.75).update(_network(small, large), 1.0)
    assert masks[0].tolist() == [[False, False, False, True]]
    assert masks[1].tolist() == [[False, True, True, True]]


def test_a_layer_is_never_emptied_by_default():
    tiny = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 2))
    tiny[1].weight.data *= 1e-6
    masks = sp.ToSparsity(sp.one_shot(0.97)).update(sp.Synapses(tiny), 1.0)
    assert [int(mask.sum()) for mask in masks] == [304, 2]  # 3 % of 10,200 is 306; the cap leaves 2 of 200


def test_gradient_score_by_hand_and_its_absence():
    synapses = _network([[1.0, 10.0, 3.0]])
    rule = sp.ToSparsity(sp.one_shot(0.34), score="gradient")
    with pytest.raises(ValueError, match="found no gradient"):
        rule.update(synapses, 1.0)
    synapses.layers[0].parameter.grad = torch.tensor([[1.0, -0.05, 1.0]])
    assert rule.update(synapses, 1.0)[0].tolist() == [[True, False, True]]


def test_own_score():
    rule = sp.ToSparsity(sp.one_shot(0.34), score=lambda piece: piece.weight)  # signed: the smallest_k go
    assert rule.update(_network([[1.0, -10.0, 3.0]]), 1.0)[0].tolist() == [[True, False, True]]


def test_nan_names_the_parameter():
    with pytest.raises(ValueError, match=r"^1\.weight holds NaN"):
        sp.ToSparsity(sp.one_shot(0.5)).update(_network([[1.0, 2.0]], [[float("nan"), 1.0]]), 1.0)


def test_shares_are_whole_and_near_and_never_fall():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 30, rng.integers(1, 6)).tolist()
        taken = [0] * len(sizes)
        for target in np.sort(rng.random(5)):
            total = max(sum(taken), round(target * sum(sizes)))
            later = round_to_total(total, [target * size for size in sizes], taken, sizes)
            assert sum(later) == total
            assert all(a <= b <= size for a, b, size in zip(taken, later, sizes, strict=True))
            assert all(abs(b - target * size) < 2 for b, size in zip(later, sizes, strict=True))
            taken = later


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "best"}, "score='best' is unknown"),
        ({"scope": "row"}, "scope='row' is unknown"),
        ({"max_layer_sparsity": 0}, "max_layer_sparsity=0 must be in"),
        ({"max_layer_sparsity": 0.8}, r"ends at 0\.9, above max_layer_sparsity=0\.8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.ToSparsity(sp.cubic(0.9), **arguments)


def _observed(rule: sp.Rule, net: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, sp.SynapticPruner]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # the weights stay what they are
    return optimizer, sp.SynapticPruner(net, optimizer, rule, total_steps=steps, every=1)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_usage_by_hand(scope):
    """Loud inputs save small weights: against a ranking of all |w| · E|x| by NumPy."""
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 5, bias=False))
    x = torch.randn(50, 6) * torch.tensor([0.01, 0.1, 1.0, 3.0, 10.0, 30.0])
    hidden = torch.relu(net[0](x)).detach()
    expected = [
        (net[0].weight.detach().abs() * x.abs().mean(0)).numpy(),
        (net[2].weight.detach().abs() * hidden.abs().mean(0)).numpy(),
    ]
    large = net[0].weight.detach().abs() > net[0].weight.detach().abs().median()
    optimizer, pruner = _observed(sp.ToSparsity(sp.one_shot(0.5), score="usage", scope=scope), net, 1)
    net(x).sum().backward()
    optimizer.step()
    together = np.median(np.concatenate([scores.ravel() for scores in expected]))
    for mask, scores in zip(pruner.masks().values(), expected, strict=True):
        limit = together if scope == "global" else np.median(scores)
        assert (mask.numpy() == (scores > limit)).all()
    assert pruner.finished
    assert not torch.equal(pruner.masks()["0.weight"], large)


def test_usage_is_that_of_the_window_before_the_event():
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.tensor([[1.0, 1.1], [1.2, 1.3]])
    optimizer, pruner = _observed(sp.ToSparsity(sp.cubic(0.5, begin=0.6, end=1.0), score="usage"), net, 2)
    for scale in ([9.0, 1.0], [1.0, 9.0]):
        net(torch.tensor([scale])).sum().backward()
        optimizer.step()
    assert pruner.masks()["weight"].tolist() == [[False, True], [False, True]]


def test_a_layer_without_activity_is_left_alone_and_told():
    net = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    optimizer, pruner = _observed(sp.ToSparsity(sp.one_shot(0.25), score="usage"), net, 1)
    nn.functional.linear(net[0](torch.randn(3, 4)), net[1].weight).sum().backward()
    with pytest.warns(UserWarning, match=r"1\.weight saw no finite input"):
        optimizer.step()
    alive = {name: int(mask.sum()) for name, mask in pruner.masks().items()}
    assert alive == {"0.weight": 8, "1.weight": 16}  # round(0.25 · 32) are gone, all from the first


def test_an_observing_rule_serves_one_pruner_and_its_own_checkpoints():
    net = nn.Linear(3, 3)
    rule = sp.ToSparsity(sp.cubic(0.5), score="usage")
    _, pruner = _observed(rule, net, 5)
    with pytest.raises(ValueError, match="already serves another pruner"):
        _observed(rule, nn.Linear(3, 3), 5)
    _, plain = _observed(sp.ToSparsity(sp.cubic(0.5)), nn.Linear(3, 3), 5)
    with pytest.raises(ValueError, match="give ToSparsity the same score"):
        plain.load_state_dict(pruner.state_dict())
    pruner.remove()
    assert not net._forward_hooks


def test_sizes_are_measured_against_the_scales_that_training_began_with():
    def fresh(*sizes: float) -> nn.Module:
        net = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
        for layer, size in zip(net, sizes, strict=True):
            nn.init.constant_(layer.weight, size)
        return net

    net = fresh(1.0, 0.1)
    rule = sp.ToSparsity(sp.one_shot(0.5), score="relative")
    with torch.no_grad():  # against √0.505 and 0.1
        optimizer, pruner = _observed(rule, net, 1)
        net[0].weight.copy_(torch.tensor([[1.0, 0.8], [0.6, 0.4]]))
        net[1].weight.copy_(torch.tensor([[0.2, 0.12], [0.08, 0.01]]))
    state = pruner.state_dict()
    with pytest.raises(ValueError, match="already serves another pruner"):
        _observed(rule, fresh(1, 1), 1)
    _, plain = _observed(sp.ToSparsity(sp.one_shot(0.5)), fresh(1, 1), 1)
    with pytest.raises(ValueError, match="give ToSparsity the same score"):
        plain.load_state_dict(state)
    other = fresh(5.0, 5.0)
    other.load_state_dict(net.state_dict())
    other_optimizer, again = _observed(sp.ToSparsity(sp.one_shot(0.5), score="relative"), other, 1)
    again.load_state_dict(state)
    for one, its in ((optimizer, net), (other_optimizer, other)):
        sum(layer.weight.sum() * 0 for layer in its).backward()
        one.step()
    kept = {"0.weight": [[1, 1], [0, 0]], "1.weight": [[1, 1], [0, 0]]}
    assert {name: mask.int().tolist() for name, mask in pruner.masks().items()} == kept
    assert {name: mask.int().tolist() for name, mask in again.masks().items()} == kept
    pruner.remove()
    _observed(rule, fresh(1, 1), 1)


@pytest.mark.parametrize(("rule", "kept"), [(0.8, range(10, 65)), (sp.ToSparsity(sp.cubic(0.8, end=0.3)), range(4))])
def test_the_default_does_not_empty_the_layer_after_a_wide_one(rule: sp.Rule | float, kept: range):
    """Of magnitudes of all layers, those of the second are the smallest before it has learnt anything."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=300)
    for _ in range(120):
        x = torch.randn(32, 16)
        optimizer.zero_grad()
        (net(x) - x[:, :4].sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    assert int(pruner.masks()["2.weight"].sum()) in kept


@pytest.mark.parametrize(
    "rule", [lambda: sp.ToSparsity(sp.cubic(0.5, end=0.5), score="usage"), lambda: sp.Disuse(end=0.5, sample=1)]
)
def test_nothing_is_observed_once_the_rule_has_ended(rule):
    net, rule = nn.Linear(3, 3), rule()
    optimizer, _ = _observed(rule, net, 4)
    monitor = rule._monitor
    for step in range(1, 5):
        assert monitor.observing == (step <= 2)
        net(torch.randn(2, 3)).sum().backward()
        assert bool(monitor.state_dict()["counts"].any()) == (step <= 2)
        optimizer.step()
    again = rule.state_dict()
    rule.load_state_dict(again)
    assert not monitor.observing
