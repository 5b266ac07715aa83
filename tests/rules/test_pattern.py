"""k of every n inputs of a row: against a reading of every block by hand, weight by weight."""

import io
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.networks import NETWORKS


def _blocks(name: str, net: nn.Module, n: int) -> list[list[int]]:
    """The blocks of a weight, as flat positions, by plain loops over its outputs and inputs."""
    module, shape = net.get_submodule(name.rpartition(".")[0]), net.get_parameter(name).shape
    if isinstance(module, nn.ConvTranspose1d):
        inputs, outputs, taps = shape
        per = inputs // module.groups
        rows = [
            [((group * per + i) * outputs + out) * taps + tap for i in range(per) for tap in range(taps)]
            for group in range(module.groups)
            for out in range(outputs)
        ]
    else:
        width = shape[1:].numel()
        rows = [list(range(out * width, (out + 1) * width)) for out in range(shape[0])]
    return [row[start : start + n] for row in rows for start in range(0, len(row), n)]


def _share(size: int, kept: int, n: int) -> int:
    return max(1, math.floor(size * kept / n + 0.5))


def _expected(name: str, net: nn.Module, alive: Tensor, kept: int, n: int) -> Tensor:
    """Prune the smallest of every block, of equal ones the first."""
    sizes, mask = net.get_parameter(name).detach().abs().flatten().tolist(), alive.flatten().tolist()
    for block in _blocks(name, net, n):
        here = [place for place in block if mask[place]]
        order = sorted(range(len(here)), key=lambda i: (sizes[here[i]], i))
        for i in order[: max(0, len(here) - _share(len(block), kept, n))]:
            mask[here[i]] = False
    return torch.tensor(mask).view_as(alive)


def _assert_holds(net: nn.Module, pruner: sp.SynapticPruner, kept: int, n: int) -> None:
    """Every block has exactly its share, and what is pruned is zero."""
    for name, mask in pruner.masks().items():
        flat = mask.flatten().tolist()
        for block in _blocks(name, net, n):
            assert sum(flat[place] for place in block) == _share(len(block), kept, n), name
        assert (net.get_parameter(name)[~mask] == 0).all()


def test_by_hand():
    net = nn.Linear(10, 2, bias=False)
    net.weight.data = torch.tensor([[1.0, -5, 2, 3, 9, 8, 7, 6, 0.5, 0.1], [4.0, 4, 4, 4, -1, -2, 0, 0, 0.1, -0.3]])
    (mask,) = sp.ToSparsity(sp.one_shot(0.5), pattern=(2, 4)).update(sp.Synapses(net), 1.0)
    assert mask.int().tolist() == [
        [0, 1, 0, 1, 1, 1, 0, 0, 1, 0],  # blocks of 4, 4 and 2; the last keeps half of 2
        [0, 0, 1, 1, 1, 1, 0, 0, 0, 1],  # of equal ones the first go
    ]


@pytest.mark.parametrize(
    ("width", "share"),
    # By hand: 3/32 of a row is 0.19, 0.75, 1.22, 1.5 and 2.63; 64 are two blocks, and 48 one and a half.
    [(2, 1), (8, 1), (13, 1), (16, 2), (28, 3), (32, 3), (64, 6), (48, 5), (1, 1)],
)
def test_short_rows_keep_their_share_rounded_and_at_least_one(width, share):
    (mask,) = sp.ToSparsity(sp.one_shot(1 - 3 / 32), pattern=(3, 32)).update(sp.Synapses(nn.Linear(width, 5)), 1.0)
    assert mask.sum(1).tolist() == [share] * 5


KINDS: dict[str, Callable[[], nn.Module]] = {
    "grouped convolution": lambda: nn.Conv2d(6, 4, 3, groups=2),  # 27 inputs a row
    "transposed": lambda: nn.ConvTranspose1d(6, 4, 3),
    "grouped transposed": lambda: nn.ConvTranspose1d(6, 4, 3, groups=2),
    "lstm": lambda: nn.LSTM(5, 7, proj_size=3, bidirectional=True),
    "attention": lambda: nn.MultiheadAttention(12, 2),
    "no inputs": lambda: nn.Linear(0, 2),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_against_loops(kind):
    torch.manual_seed(2)
    net = nn.Sequential(KINDS[kind]())
    for p in net.parameters():
        p.data = (p.data * 20).round() / 4  # many ties
    synapses = sp.Synapses(net)
    for kept in (7, 4, 3):
        before = [layer.alive for layer in synapses.layers]
        ramp = sp.cubic(1 - 3 / 8, initial=1 - kept / 8, begin=0.5)
        masks = sp.ToSparsity(ramp, pattern=(3, 8)).update(synapses, 0.5)
        for layer, old, mask in zip(synapses.layers, before, masks, strict=True):
            assert torch.equal(mask, _expected(layer.name, net, old, kept, 8)), layer.name
        synapses.set_masks(masks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_large_layers_are_ranked_in_parts(monkeypatch, dtype):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(21, 13, dtype=dtype))
    monkeypatch.setattr("synaptic_pruning.core.topk.blocks._CHUNK", 100)  # four rows of three blocks of eight
    synapses = sp.Synapses(net)
    (mask,) = sp.ToSparsity(sp.one_shot(1 - 3 / 8), pattern=(3, 8)).update(synapses, 1.0)
    assert torch.equal(mask, _expected("0.weight", net, synapses.layers[0].alive, 3, 8))


def test_scores_that_are_no_floats_are_refused():
    rule = sp.ToSparsity(sp.one_shot(0.5), score=lambda piece: piece.weight.abs().int(), pattern=(2, 4))
    with pytest.raises(ValueError, match=r"weight is of torch\.int32; scores must be"):
        rule.update(sp.Synapses(nn.Linear(4, 2)), 1.0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_counts_are_exact_and_masks_only_shrink(data):
    n = data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, n))
    width, outputs = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 3))
    net = nn.Sequential(nn.Linear(width, outputs, bias=False))
    sizes = st.sampled_from([-2.0, -1.0, 0.0, -0.0, 1.0, 3.0, math.inf, -math.inf])
    synapses = sp.Synapses(net)
    layer, steps = synapses.layers[0], data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=4))
    rule = sp.ToSparsity(sp.linear(1 - k / n), pattern=(k, n))
    for progress in sorted(steps):
        numbers = data.draw(st.lists(sizes, min_size=width * outputs, max_size=width * outputs))
        net[0].weight.data = torch.tensor(numbers).view(outputs, width)
        old, kept = layer.alive, round((1 - rule.schedule(progress)) * n)
        (mask,) = rule.update(synapses, progress)
        assert torch.equal(mask, _expected("0.weight", net, old, kept, n))
        assert mask is old or not torch.equal(mask, old)
        synapses.set_masks([mask])
        counts = [sum(mask.flatten().tolist()[place] for place in block) for block in _blocks("0.weight", net, n)]
        assert counts == [_share(len(block), kept, n) for block in _blocks("0.weight", net, n)]


@pytest.mark.parametrize("network", ["cnn", "lstm", "bfloat16"])
def test_a_ramp_goes_by_whole_steps_in_all_blocks(network):
    torch.manual_seed(3)
    model, loss = NETWORKS[network]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    ramp = sp.cubic(1 - 2 / 8, begin=0.2, end=0.8)
    pruner = sp.SynapticPruner(model, optimizer, sp.ToSparsity(ramp, pattern=(2, 8)), total_steps=10, every=1)
    seen = []
    for step in range(1, 11):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        seen.append(round((1 - ramp(step / 10)) * 8))
        _assert_holds(model, pruner, seen[-1], 8)
    assert seen == [8, 8, 5, 4, 3, 2, 2, 2, 2, 2]  # by hand: 8 − 6 · (1 − (1 − p)³), rounded


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(19, 24), nn.Tanh(), nn.Linear(24, 10), nn.Tanh(), nn.Linear(10, 2))


def _gradients(net: nn.Module) -> None:
    x = torch.randn(16, 19)
    net.zero_grad()
    (net(x) - x[:, :2]).square().mean().backward()


RULES = {
    "set": lambda k, n: sp.SET(1 - k / n, pattern=(k, n), drop=0.6, end=0.8, seed=4),
    "rigl": lambda k, n: sp.RigL(1 - k / n, pattern=(k, n), drop=0.6, end=0.8, seed=4),
}


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(("k", "n"), [(2, 8), (6, 8), (1, 3)])
def test_swaps_against_a_choice_weight_by_weight(kind, k, n):
    """The weakest of the layer go, from a block no more than it can take back; the strongest gradients come there."""
    torch.manual_seed(5)
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # what is alive at an event stays what it was drawn as
    pruner = sp.SynapticPruner(net, optimizer, RULES[kind](k, n), total_steps=10, every=1)
    _assert_holds(net, pruner, k, n)
    for step in range(1, 11):
        before = pruner.masks()
        for name, mask in before.items():
            net.get_parameter(name).data = torch.randn(mask.shape) * mask
        weights = {name: net.get_parameter(name).detach().abs() for name in before}
        _gradients(net)
        gradients = {name: net.get_parameter(name).grad.abs() for name in before}
        optimizer.step()
        _assert_holds(net, pruner, k, n)
        fraction = 0.3 * (1 + math.cos(math.pi * step / 8)) if step < 8 else 0.0
        for name, mask in pruner.masks().items():
            old, new = before[name].flatten().tolist(), mask.flatten().tolist()
            sizes, blocks = weights[name].flatten().tolist(), _blocks(name, net, n)
            room = [sum(not old[place] for place in block) for block in blocks]
            dropped: set[int] = set()
            for _, i, place in sorted(
                (sizes[place], i, place) for i, b in enumerate(blocks) for place in b if old[place]
            ):
                if room[i] and len(dropped) < round(fraction * sum(old)):
                    room[i] -= 1
                    dropped.add(place)
            assert {place for place, was in enumerate(old) if was and not new[place]} == dropped
            if kind == "rigl":
                steepness = gradients[name].flatten().tolist()
                for block in blocks:
                    free = sorted((place for place in block if not old[place]), key=lambda place: -steepness[place])
                    grown = free[: sum(place in dropped for place in block)]
                    assert {place for place in block if new[place] and not old[place]} == set(grown)
    assert pruner.finished


def test_random_masks_differ_between_blocks_and_seeds_and_agree_between_runs():
    masks = []
    for seed in (1, 1, 2):
        net = nn.Linear(64, 64)
        masks.append(sp.SET(1 - 3 / 32, pattern=(3, 32), seed=seed).attach(net, sp.Synapses(net))[0])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    # 128 draws of 3 from 32: every input is drawn about 12 times.
    assert masks[0].view(-1, 32).sum(0).float().std() < 2 * math.sqrt(12 * (1 - 3 / 32))
    assert masks[0].view(-1, 32).unique(dim=0).shape[0] > 120


def test_zeros_that_lie_by_the_pattern_are_kept_and_others_are_a_fresh_start():
    torch.manual_seed(0)
    net = _net()
    (sp.SynapticPruner(net, torch.optim.SGD(net.parameters(), lr=0.1), RULES["set"](2, 8), total_steps=5)).remove()
    learnt = {name: value.clone() for name, value in net.state_dict().items()}
    rule = sp.RigL(1 - 2 / 8, pattern=(2, 8), seed=9, scaled_start=True)
    pruner = sp.SynapticPruner(net, torch.optim.SGD(net.parameters(), lr=0.1), rule, total_steps=5)
    assert all(torch.equal(value, learnt[name]) for name, value in net.state_dict().items())
    _assert_holds(net, pruner, 2, 8)
    pruner.remove()
    rule = sp.RigL(1 - 1 / 8, pattern=(1, 8), scaled_start=True)
    with pytest.raises(ValueError, match="does not look freshly initialised"):
        sp.SynapticPruner(net, torch.optim.SGD(net.parameters(), lr=0.1), rule, total_steps=5)


@pytest.mark.parametrize("kind", ["ramp", "set", "rigl", "granet"])
def test_resumed_run_is_that_of_one_bit_for_bit_with_compensation(kind):
    def start() -> tuple[nn.Module, torch.optim.Optimizer, sp.SynapticPruner]:
        rules = RULES | {
            "ramp": lambda k, n: sp.ToSparsity(sp.cubic(1 - k / n, end=0.7), pattern=(k, n)),
            "granet": lambda k, n: sp.GraNet(1 - k / n, begin=0.0, ramp_end=0.5, pattern=(k, n)),
        }
        torch.manual_seed(6)
        net = _net()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        return net, optimizer, sp.SynapticPruner(net, optimizer, rules[kind](2, 8), total_steps=12, every=2)

    def train(net: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            _gradients(net)
            optimizer.step()

    whole, optimizer, pruner = start()
    train(whole, optimizer, 0, 12)
    assert pruner.log()["pruning/rate_factor"] > 1.5
    net, optimizer, half = start()
    train(net, optimizer, 0, 5)
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), half.state_dict()], file)
    file.seek(0)
    net, optimizer, half = start()
    for part, state in zip((net, optimizer, half), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(net, optimizer, 5, 12)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(mask, pruner.masks()[name]) for name, mask in half.masks().items())
    _assert_holds(net, half, 2, 8)


@pytest.mark.parametrize("kind", RULES)
def test_masks_of_an_earlier_training_are_brought_to_the_pattern(kind):
    torch.manual_seed(1)
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    earlier = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.3, at=0.0)), total_steps=1)
    _gradients(net)
    optimizer.step()
    state = earlier.state_dict() | {"finished": False}
    earlier.remove()
    pruner = sp.SynapticPruner(net, optimizer, RULES[kind](2, 8), total_steps=5, every=1, earlier=state)
    _gradients(net)
    optimizer.step()
    for name, mask in pruner.masks().items():
        for block in _blocks(name, net, 8):
            assert mask.flatten()[block].sum() <= _share(len(block), 2, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sp.ToSparsity(sp.cubic(0.9), pattern=(3, 32)),
            r"the end of the schedule=0\.9 contradicts .* 0\.90625",
        ),
        (lambda: sp.SET(pattern=(3, 32)), r"sparsity=0\.9 contradicts pattern=\(3, 32\); give 1 - 3 / 32 = 0\.90625"),
        (lambda: sp.RigL(0.5, pattern=(0, 4)), r"pattern=\(0, 4\) must be two whole numbers"),
        (lambda: sp.RigL(0.5, pattern=(5, 4)), r"pattern=\(5, 4\) must be two whole numbers"),
        (lambda: sp.SET(0.5, pattern=(2.0, 4)), r"pattern=\(2\.0, 4\) must be"),
        (lambda: sp.SET(0.5, pattern="24"), r"pattern='24' must be"),
        (lambda: sp.SET(0.5, pattern=(2, 4, 8)), "must be two"),
        (lambda: sp.SET(0.5, pattern=(True, 2)), "must be two"),
        (lambda: sp.SET(0.0, pattern=(4, 4)), r"sparsity=0\.0 must be above 0"),
        (lambda: sp.GraNet(0.8, pattern=(1, 4)), r"sparsity=0\.8 contradicts"),
        (lambda: sp.ToSparsity(sp.cubic(0.5), scope="layer", pattern=(2, 4)), "scope='layer' means nothing beside"),
        (
            lambda: sp.SET(0.5, max_layer_sparsity=0.9, pattern=(2, 4)),
            r"max_layer_sparsity=0\.9 means nothing beside pattern=\(2, 4\)",
        ),
    ],
)
def test_bad_patterns(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_one_of_many_needs_no_higher_cap():
    for rule in (sp.SET(1 - 1 / 256, pattern=(1, 256)), sp.ToSparsity(sp.cubic(1 - 1 / 256), pattern=(1, 256))):
        assert rule.pattern == (1, 256)


@pytest.mark.parametrize("bad", ["weight", "gradient"])
def test_nan_names_the_parameter_and_changes_nothing(bad):
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    rule = sp.RigL(0.75, pattern=(2, 8)) if bad == "gradient" else sp.ToSparsity(sp.cubic(0.75), pattern=(2, 8))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=4, every=1)
    net(torch.randn(3, 8)).sum().backward()
    masks = pruner.masks()
    spoilt = net[1].weight if bad == "weight" else net[1].weight.grad
    spoilt.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"1\.weight holds NaN"):
        optimizer.step()
    assert all(torch.equal(mask, masks[name]) for name, mask in pruner.masks().items())


def test_usage_leaves_a_layer_without_activity_alone():
    net = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4)])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    rule = sp.ToSparsity(sp.one_shot(0.75, at=0.0), score="usage", pattern=(2, 8))
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=1)
    x = torch.randn(5, 8) * torch.tensor([0.01, 0.01, 0.01, 100, 0.01, 0.01, 100, 0.01])
    (net[0](x).sum() + net[1].weight.sum()).backward()
    with pytest.warns(UserWarning, match=r"1\.weight saw no finite input"):
        optimizer.step()
    assert pruner.masks()["0.weight"].int().tolist() == [[0, 0, 0, 1, 0, 0, 1, 0]] * 4
    assert pruner.masks()["1.weight"].all()


def test_a_rule_without_a_pattern_is_written_as_before():
    """Published figures are found by it."""
    ramp = "Schedule(name='cubic', initial=0.0, final=0.8, begin=0.0, end=1.0)"
    assert repr(sp.ToSparsity(sp.cubic(0.8))) == (
        f"ToSparsity(schedule={ramp}, score='magnitude', scope='global', max_layer_sparsity=0.99)"
    )
    rest = "drop=0.3, end=0.75, max_layer_sparsity=0.99, seed=0, scaled_start=False"
    assert repr(sp.SET()) == f"SET(sparsity=0.9, {rest})"
    assert repr(sp.RigL(0.8)) == f"RigL(sparsity=0.8, {rest})"
    assert repr(sp.GraNet()) == f"GraNet(sparsity=0.9, {rest}, begin=0.05, ramp_end=0.5)"
    assert repr(sp.SET(0.75, pattern=(1, 4))) == f"SET(sparsity=0.75, {rest}, pattern=(1, 4))"
    assert sp.SET(0.75, pattern=(1, 4)) != sp.SET(0.75)
