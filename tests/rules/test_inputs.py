"""Whole input features are pruned: what the network then makes of them is nothing, whatever their value."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import synaptic_pruning as sp
from helpers.combinations import quick_or_slow
from synaptic_pruning.export import compact, shrink

HALF = sp.one_shot(0.5)


def _pruned(
    model: nn.Module, schedule: sp.Schedule = HALF, *, exclude: tuple[str, ...] = (), **arguments: Any
) -> tuple[dict[str, Tensor], list[bool]]:
    """Return the masks after one event at the end, and which features are alive; the model's weights are zeroed."""
    synapses, rule = sp.Synapses(model, exclude=exclude), sp.Inputs(schedule, **arguments)
    synapses.set_masks(rule.attach(model, synapses))
    synapses.set_masks(rule.update(synapses, 1.0))
    masks = synapses.masks()
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    return masks, rule.alive(synapses).tolist()


def test_columns_of_a_linear_by_hand():
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    net[0].weight.data = torch.tensor([[3.0, 0.0, 2.0, 0.0], [4.0, 4.9, -2.0, 6.0]])  # norms 5, 4.9, 2.8, 6
    masks, alive = _pruned(net)
    assert alive == [True, False, False, True]
    assert masks["0.weight"].tolist() == [alive, alive]
    assert masks["1.weight"].all()


def test_all_gates_and_both_directions_count_by_hand():
    net = nn.LSTM(3, 2, num_layers=2, bidirectional=True)
    forward, backward = net.weight_ih_l0.data.zero_(), net.weight_ih_l0_reverse.data.zero_()
    forward[0, 0] = 3.0  # in one gate of one direction
    forward[7, 1] = backward[2, 1] = 2.5  # in two: norm 3.54
    backward[:, 2] = 1.0  # in all eight rows of one direction: norm 2.83
    masks, alive = _pruned(net, sp.one_shot(1 / 3))
    assert alive == [True, True, False]
    for name, mask in masks.items():
        assert mask.tolist() == [alive] * 8 if name.startswith("weight_ih_l0") else mask.all()


def test_ties_go_to_the_first_and_rounding_is_exact_along_a_schedule():
    net = nn.Linear(7, 3)
    net.weight.data.fill_(1.0)
    synapses, rule = sp.Synapses(net), sp.Inputs(sp.linear(0.8, begin=0.0, end=1.0))
    synapses.set_masks(rule.attach(net, synapses))
    before = synapses.layers[0].alive
    for progress, pruned in ((0.05, 0), (0.3, 2), (0.5, 3), (0.6, 3), (1.0, 6)):  # 0.28, 1.68, 2.8, 3.36, 5.6
        masks = rule.update(synapses, progress)
        assert (masks[0] is before) == (pruned == int((~before).all(0).sum()))  # the same object: unchanged
        synapses.set_masks(masks)
        before = synapses.layers[0].alive
        assert rule.alive(synapses).tolist() == [False] * pruned + [True] * (7 - pruned)


def test_one_feature_always_stays():
    _, alive = _pruned(nn.Linear(3, 2), sp.one_shot(0.99))
    assert sum(alive) == 1


class Ours(nn.Module):
    """A recurrent network beside a shortcut, which both read the inputs, and a head on their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.recurrent, self.shortcut = nn.Linear(8, 2), nn.GRU(6, 5, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.recurrent(x)[0], self.shortcut(x)], -1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


def _channels_first(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(0, (3, 1)), nn.Flatten(0, 1), _Turned(layer), nn.Flatten())


class _Turned(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 2))


READERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), {}),
    "rnn": (lambda: _First(nn.RNN(6, 4, batch_first=True)), {}),
    "lstm": (lambda: _First(nn.LSTM(6, 4, 2, bidirectional=True, proj_size=2, batch_first=True)), {}),
    "gru": (lambda: _First(nn.GRU(6, 4, batch_first=True)), {}),
    "convolution": (lambda: _channels_first(nn.Conv1d(6, 4, 3)), {}),
    "transposed": (lambda: _channels_first(nn.ConvTranspose1d(6, 4, 3)), {}),
    "gpt-2": (lambda: nn.Sequential(Conv1D(4, 6), nn.ReLU(), Conv1D(1, 4)), {}),
    "attention": (Attending, {}),
    "two readers": (Ours, {"layers": ["shortcut", "recurrent"]}),
}


class _First(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize("name", READERS)
def test_a_pruned_feature_reaches_nothing_and_one_that_is_left_does(name: str):
    torch.manual_seed(0)
    make, arguments = READERS[name]
    net = make().double()
    _, alive = _pruned(net, sp.one_shot(0.7), **arguments)
    assert sum(alive) == 2  # of six: round(4.2) go
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    for feature, left in enumerate(alive):
        other = x.clone()
        other[..., feature] += 1.0
        assert torch.equal(net(other), net(x)) != left


def test_the_pruned_are_the_smallest_norms_of_each_event_for_good():
    torch.manual_seed(0)
    net = _First(nn.GRU(9, 4, batch_first=True))
    optimizer, rule = torch.optim.AdamW(net.parameters(), lr=0.05), sp.Inputs(sp.cubic(0.8, begin=0.0, end=0.5))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=20, every=2)
    weight, expected = net.layer.weight_ih_l0, set(range(9))
    for step in range(1, 21):
        optimizer.zero_grad()
        x = torch.randn(8, 4, 9)
        (net(x)[..., 0] - x[..., :3].sum(-1)).square().mean().backward()
        before = copy.deepcopy((net, optimizer.state_dict()))
        optimizer.step()
        if step % 2 == 0:  # the step again, without a pruner, tells the norms that the event has seen
            twin = torch.optim.AdamW(before[0].parameters(), lr=0.05)
            twin.load_state_dict(before[1])
            for p, q in zip(before[0].parameters(), net.parameters(), strict=True):
                p.grad = q.grad.clone()
            twin.step()
            norms = before[0].layer.weight_ih_l0.detach().norm(dim=0)
            keep = 9 - round(rule.schedule(step / 20) * 9)
            expected = set(sorted(expected, key=lambda f: float(norms[f]))[len(expected) - keep :])
        assert {f for f in range(9) if rule.alive(pruner.synapses)[f]} == expected
        assert {f for f in range(9) if weight[:, f].any()} == expected
    assert len(expected) == 2


def test_features_that_tell_something_survive():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer, rule = torch.optim.Adam(net.parameters(), lr=0.01), sp.Inputs(sp.cubic(0.8, begin=0.2, end=0.7))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=200)
    for _ in range(200):
        x = torch.randn(64, 20)
        optimizer.zero_grad()
        (net(x)[:, 0] - x[:, [3, 8, 13, 17]].sum(1)).square().mean().backward()
        optimizer.step()
    assert rule.alive(pruner.synapses).nonzero().flatten().tolist() == [3, 8, 13, 17]


def test_the_first_prunable_layer_is_taken_unless_one_is_named():
    net = Ours()
    masks, _ = _pruned(copy.deepcopy(net))
    assert [name for name, mask in masks.items() if not mask.all()] == ["head.weight"]  # first in module order
    masks, _ = _pruned(copy.deepcopy(net), layers=["recurrent"])
    assert [name for name, mask in masks.items() if not mask.all()] == ["recurrent.weight_ih_l0"]
    masks, _ = _pruned(copy.deepcopy(net), exclude=("head.*",))
    assert [name for name, mask in masks.items() if not mask.all()] == ["recurrent.weight_ih_l0"]
    with torch.no_grad():  # of two readers the norm of both counts: 5 and 4 by hand, where each alone would say other
        for weight, value in ((net.shortcut.weight, 0.0), (net.recurrent.weight_ih_l0, 0.0)):
            weight.fill_(value)
        net.shortcut.weight[0, :2] = torch.tensor([4.0, 0.0])
        net.recurrent.weight_ih_l0[0, :2] = torch.tensor([3.0, 4.5])
    _, alive = _pruned(net, sp.one_shot(5 / 6), layers=["shortcut", "recurrent"])
    assert alive == [True] + [False] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "recurrent"}, r"write \['recurrent'\]"),
        ({"layers": []}, "names no module"),
        ({"layers": ["body"]}, "names 'body', which is no module"),
        ({"layers": ["norm"]}, "norm has no inputs that can be pruned"),
        ({"layers": ["depthwise"]}, "depthwise has no inputs that can be pruned"),
        ({"layers": ["attention"]}, "attention has no inputs that can be pruned"),
        ({"layers": ["frozen"]}, "frozen has no inputs that can be pruned"),
        ({"layers": ["excluded"]}, "excluded has no inputs that can be pruned"),
        ({"layers": ["wide", "narrow"]}, r"layers=\['wide', 'narrow'\] read different numbers of features"),
        ({}, "the model has no layer whose inputs can be pruned"),
        ({"layers": ["wide"]}, r"a weight of wide\.weight is NaN"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str):
    parts = {
        "norm": nn.LayerNorm(4),
        "depthwise": nn.Conv1d(4, 4, 3, groups=4),
        "attention": nn.MultiheadAttention(4, 2, kdim=3, vdim=3),
        "frozen": nn.Linear(4, 2).requires_grad_(False),
        "excluded": nn.Linear(4, 2),
        "wide": nn.Linear(4, 2),
        "narrow": nn.Linear(3, 2),
    }
    parts["wide"].weight.data[1, 1] = torch.nan
    if not arguments:
        parts = {"depthwise": parts["depthwise"], "bilinear": nn.Bilinear(2, 2, 1), "excluded": nn.Linear(2, 2)}
    with pytest.raises(ValueError, match=message):
        _pruned(nn.ModuleDict(parts), exclude=("excluded.*", "*.out_proj.*")[: 1 + bool(arguments)], **arguments)


def test_a_refused_rule_leaves_everything_as_it_was():
    net, rule = nn.Linear(4, 2), sp.Inputs(HALF, layers=["body"])
    optimizer = torch.optim.SGD(net.parameters())
    with pytest.raises(ValueError, match="no module of the model"):
        sp.SynapticPruner(net, optimizer, rule, total_steps=10)
    assert not optimizer._optimizer_step_pre_hooks
    sp.SynapticPruner(net, optimizer, sp.Inputs(HALF), total_steps=10)


def test_what_is_left_is_asked_of_the_pruners_own_rule():
    net = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"ask pruner\.rule"):
        sp.Inputs(HALF).alive(sp.Synapses(net))
    assert repr(sp.Inputs(HALF)) == f"Inputs(schedule={HALF!r}, layers=None)"


EXPORTS: dict[str, Callable[..., nn.Module]] = {"shrink": shrink, "compact": compact}


@quick_or_slow(
    ("name", "export"), {("linear", "shrink"), ("lstm", "shrink")}, ["linear", "lstm", "gru", "convolution"], EXPORTS
)
def test_exports_of_it_are_right(name: str, export: str):
    torch.manual_seed(0)
    net = READERS[name][0]()
    _pruned(net, sp.one_shot(0.7))
    net.eval()
    x = torch.randn(3, 5, 6)
    with torch.inference_mode():
        torch.testing.assert_close(EXPORTS[export](net, x)(x), net(x))
