"""Initial masks, loading in any order, and refusals that leave everything as it was."""

import copy
import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.combinations import in_turn, quick_or_slow
from helpers.processes.killed_runs import differences
from helpers.small_network import pruned_are_zero
from synaptic_pruning.rules.dynamic.pretrained import find_pretrained, looks_drawn, top_singular_ratio

STEPS = 40


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 1))


def _learn(net: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(64, 20, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - x[:, :4].sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()


def _adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.01)


def _learnt() -> nn.Sequential:
    net = _net()
    _learn(net, _adam(net), 0, 200)
    return net


def _sparse_throughout() -> sp.Rule:
    return sp.SET(0.8, scaled_start=True)


def test_a_scaled_start_is_sparse_from_the_first_step_on_and_stays_so():
    net, fresh = _net(), _net()
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, _sparse_throughout(), total_steps=STEPS)
    assert pruner.ramp_finished
    assert not pruner.finished
    for name, mask in pruner.masks().items():
        scale = (mask.numel() / int(mask.sum())) ** 0.5
        torch.testing.assert_close(net.get_parameter(name), fresh.get_parameter(name) * scale * mask)
    first = pruner.masks()
    for step in range(STEPS):
        _learn(net, optimizer, step, step + 1)
        assert sum(int(mask.sum()) for mask in pruner.masks().values()) == 2030 - round(0.8 * 2030)
        assert pruned_are_zero(net, pruner)
        if step + 1 == 0.75 * STEPS:
            settled = pruner.masks()
            assert pruner.finished
    assert any(not torch.equal(mask, first[name]) for name, mask in settled.items())
    assert all(torch.equal(mask, settled[name]) for name, mask in pruner.masks().items())


def test_learnt_weights_are_not_pruned_at_random():
    net = _learnt()
    before = copy.deepcopy(net.state_dict())
    optimizer = _adam(net)
    remembered = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(
        ValueError,
        match=r"^\d\.weight does not look freshly initialised, .* 80% .* rule=ToSparsity\(.*state with state=",
    ):
        sp.SynapticPruner(net, optimizer, _sparse_throughout(), total_steps=STEPS)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert optimizer.state_dict() == remembered
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8)), total_steps=STEPS)
    _learn(net, optimizer, 0, STEPS)


def test_a_network_that_is_sparse_already_keeps_its_zeros():
    net = _learnt()
    optimizer = _adam(net)
    ramp = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.9, at=0.1)), total_steps=STEPS)
    _learn(net, optimizer, 0, STEPS)
    ramp.remove()
    before = copy.deepcopy(net.state_dict())
    pruner = sp.SynapticPruner(net, optimizer, _sparse_throughout(), total_steps=STEPS)
    assert sum(int((~mask).sum()) for mask in pruner.masks().values()) == round(0.8 * 2030)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_less_sparse_than_the_rule_is_refused():
    net = _learnt()
    optimizer = _adam(net)
    ramp = sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.1)), total_steps=STEPS)
    _learn(net, optimizer, 0, STEPS)
    ramp.remove()
    with pytest.raises(ValueError, match="does not look freshly initialised"):
        sp.SynapticPruner(net, optimizer, _sparse_throughout(), total_steps=STEPS)


def test_the_default_takes_networks_that_have_learnt_and_starts_with_all_they_have():
    net = _learnt()
    before = copy.deepcopy(net.state_dict())
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
    assert pruner.sparsity() == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    _learn(net, optimizer, 0, STEPS)
    assert pruner.sparsity() == 0.8
    x = torch.randn(500, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # the target's variance is 4
        assert (net(x) - x[:, :4].sum(1, keepdim=True)).square().mean() < 0.05


RULES: dict[str, Callable[[], sp.Rule | float]] = {
    "default": lambda: 0.8,
    "set": lambda: sp.SET(0.8),
    "scaled": _sparse_throughout,
    "rigl": lambda: sp.RigL(0.8),
    "granet": lambda: sp.GraNet(0.8),
    "ramp": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.5)),
    "disuse": lambda: sp.Disuse(patience=2, threshold=0.9),
}
Checkpoint = dict[str, dict]


def _start(rule: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, sp.SynapticPruner]:
    net = _net(seed)
    optimizer = _adam(net)
    return net, optimizer, sp.SynapticPruner(net, optimizer, RULES[rule](), total_steps=STEPS)


@functools.cache
def _interrupted(rule: str) -> tuple[dict[int, Checkpoint], dict[str, Tensor], dict[str, Tensor]]:
    """Return checkpoints after these steps, and the weights and masks at the end; there is an event at every step."""
    net, optimizer, pruner = _start(rule)
    checkpoints = {}
    for step in range(STEPS):
        if step in (0, 1, 2, 25):
            parts = {"model": net, "optimizer": optimizer, "pruner": pruner}
            checkpoints[step] = copy.deepcopy({name: part.state_dict() for name, part in parts.items()})
        _learn(net, optimizer, step, step + 1)
    return checkpoints, net.state_dict(), pruner.masks()


ORDERS = [*itertools.permutations(("model", "optimizer", "pruner")), "before", "at once"]
STARTS = list(RULES), [0, 1, 2, 25], ORDERS


# Quick: every rule at every step, with the orders in turn.
ONCE = {
    (rule, step, ORDERS[(3 * place + turn) % len(ORDERS)])
    for place, rule in enumerate(RULES)
    for turn, step in enumerate(STARTS[1])
}


@quick_or_slow(("rule", "step", "order"), ONCE, *STARTS)
def test_in_whatever_order_a_checkpoint_is_loaded(rule: str, step: int, order: str | tuple[str, ...]):
    checkpoints, weights, masks = _interrupted(rule)
    checkpoint = copy.deepcopy(checkpoints[step])
    if isinstance(order, tuple):
        net, optimizer, pruner = _start(rule, seed=1)
        parts = {"model": net, "optimizer": optimizer, "pruner": pruner}
        for name in order:
            parts[name].load_state_dict(checkpoint[name])
    else:
        net = _net(seed=1)
        net.load_state_dict(checkpoint["model"])
        optimizer = _adam(net)
        optimizer.load_state_dict(checkpoint["optimizer"])
        state = checkpoint["pruner"] if order == "at once" else None
        pruner = sp.SynapticPruner(net, optimizer, RULES[rule](), total_steps=STEPS, state=state)
        if order == "before":
            pruner.load_state_dict(checkpoint["pruner"])
    _learn(net, optimizer, step, STEPS)
    assert all(torch.equal(mask, masks[name]) for name, mask in pruner.masks().items())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def _everything(net: nn.Module, optimizer: torch.optim.Optimizer, pruner: sp.SynapticPruner) -> dict[str, dict]:
    parts = {"model": net, "optimizer": optimizer, "pruner": pruner}
    return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})


def test_a_refused_checkpoint_changes_nothing():
    """The score differs, which only the rule can tell, after the masks were found to fit."""
    usage = _net(), sp.ToSparsity(sp.cubic(0.8, end=0.5), score="usage")
    other = sp.SynapticPruner(usage[0], _adam(usage[0]), usage[1], total_steps=STEPS)
    _learn(usage[0], other.optimizer, 0, 20)
    net, optimizer, pruner = _start("ramp")
    twin = _start("ramp")
    for some in (net, optimizer), twin[:2]:
        _learn(*some, 0, 10)
    before = _everything(net, optimizer, pruner)
    for bad in (
        other.state_dict(),
        {**pruner.state_dict(), "history": {}},
        {**pruner.state_dict(), "memory": {"activity": 1}},
    ):
        with pytest.raises((ValueError, KeyError)):
            pruner.load_state_dict(bad)
        assert not differences(before, _everything(net, optimizer, pruner))
    for some in (net, optimizer), twin[:2]:
        _learn(*some, 10, STEPS)
    assert not differences(_everything(net, optimizer, pruner), _everything(*twin))


class _Failing(sp.SET):
    """Fails where it is told to."""

    at = ""

    def attach(self, model, synapses):
        masks = super().attach(model, synapses)
        return self._fail("attach") or masks

    def initialise(self, synapses):
        super().initialise(synapses)
        self._fail("initialise")

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._fail("load_state_dict")

    def _fail(self, place: str) -> None:
        if self.at == place:
            raise ValueError(f"failed in {place}")


class _OneTensor(sp.Rule):
    """Returns a mask of one layer alone."""

    end = 0.5

    def attach(self, model, synapses):
        self.seen = list(synapses.layers)
        return [synapses.layers[0].alive]

    def update(self, synapses, progress):
        return [layer.alive for layer in synapses.layers]


def _failing(place: str) -> _Failing:
    rule = _Failing(0.8, scaled_start=True)
    rule.at = place
    return rule


def _state_of(rule: sp.Rule) -> dict:
    """A state that fits the network and the rule in all but what is asked of it."""
    net = _net()
    return sp.SynapticPruner(net, _adam(net), rule, total_steps=STEPS).state_dict()


FAILURES: dict[str, tuple[Callable[[], sp.Rule], Callable[[], dict]]] = {
    "usage, foreign state": (
        lambda: sp.ToSparsity(sp.cubic(0.5), score="usage"),
        lambda: {"state": {"format": 0}},
    ),
    "usage, state of another score": (
        lambda: sp.ToSparsity(sp.cubic(0.5), score="usage"),
        lambda: {"state": _state_of(sp.ToSparsity(sp.cubic(0.5)))},
    ),
    "disuse, foreign state": (lambda: sp.Disuse(), lambda: {"state": {"format": 0}}),
    "cycles, foreign state": (lambda: sp.Cycles(), lambda: {"state": {"format": 0}}),
    "attach raises": (lambda: _failing("attach"), dict),
    "initialise raises": (lambda: _failing("initialise"), dict),
    "loading raises": (
        lambda: _failing("load_state_dict"),
        lambda: {"state": _state_of(_Failing(0.8, scaled_start=True))},
    ),
    "too few masks": (_OneTensor, dict),
    "total_steps": (lambda: sp.SET(0.8, scaled_start=True), lambda: {"total_steps": 0}),
    "every": (lambda: sp.Disuse(), lambda: {"every": 0}),
    "a pattern": (lambda: sp.Disuse(), lambda: {"include": ["nothing"]}),
    "a parameter too many": (lambda: sp.SET(0.8, scaled_start=True), lambda: {"include": ["*"]}),
}


def _traces(net: nn.Module, optimizer: torch.optim.Optimizer, rule: sp.Rule) -> dict:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()]
    hooks += [len(p._post_accumulate_grad_hooks or ()) for p in net.parameters()]
    hooks += [len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)]
    own = {name: value for name, value in vars(rule).items() if name != "_monitor"}
    parts = net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()], own
    return {"hooks": hooks, "monitor": id(getattr(rule, "_monitor", None)), "parts": copy.deepcopy(parts)}


@in_turn(("name", "used_before"), list(FAILURES), [False, True])
def test_a_failed_construction_leaves_no_trace(name: str, used_before: bool):
    make, arguments = FAILURES[name]
    net, rule, given = _net(), make(), {"total_steps": STEPS, **arguments()}
    if used_before and name not in ("attach raises", "initialise raises", "too few masks"):
        other = _net()
        earlier = sp.SynapticPruner(other, _adam(other), rule, total_steps=STEPS)
        _learn(other, earlier.optimizer, 0, STEPS)
        earlier.remove()
    optimizer = _adam(net) if name != "a parameter too many" else torch.optim.SGD([net[0].weight], lr=0.1)
    net(torch.ones(2, net[0].in_features)).sum().backward()
    before = _traces(net, optimizer, rule)
    with pytest.raises(ValueError):  # a test of what is left behind, not of the words
        sp.SynapticPruner(net, optimizer, rule, **given)
    assert not differences(before, _traces(net, optimizer, rule))
    good = _adam(net)
    sp.SynapticPruner(net, good, sp.ToSparsity(sp.cubic(0.5)), total_steps=STEPS)  # the parameters are free
    _learn(net, good, 0, STEPS)


def test_a_refused_rule_goes_on_serving_its_pruner():
    """A rule that observes serves one pruner: what a second one is refused must not stop the first."""
    net, other, rule = _net(), _net(), sp.ToSparsity(sp.cubic(0.8, end=0.5), score="usage")
    pruner = sp.SynapticPruner(net, _adam(net), rule, total_steps=STEPS)
    with pytest.raises(ValueError, match="already serves another pruner"):
        sp.SynapticPruner(other, _adam(other), rule, total_steps=STEPS)
    _learn(net, pruner.optimizer, 0, STEPS)
    assert pruner.sparsity() == 0.8


def test_weights_that_come_after_the_pruner_are_not_zeroed_in_silence():
    net = _net()
    optimizer = _adam(net)
    sp.SynapticPruner(net, optimizer, sp.SET(0.8), total_steps=STEPS)
    learnt = _learnt().state_dict()
    net.load_state_dict(learnt)
    with pytest.raises(ValueError, match=r"0\.weight was given weights after the pruner .* before the pruner"):
        _learn(net, optimizer, 0, 1)
    assert all(torch.equal(value, learnt[name]) for name, value in net.state_dict().items())


INITS: dict[str, Callable[[Tensor], object]] = {
    "uniform": nn.init.kaiming_uniform_,
    "normal": nn.init.xavier_normal_,
    "tiny": lambda w: nn.init.trunc_normal_(w, std=1e-6),
    "orthogonal": nn.init.orthogonal_,
    "zero": nn.init.zeros_,
}


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (256, 64), (200, 3)])
def test_fresh_weights_look_fresh(init: str, shape: tuple[int, int]):
    torch.manual_seed(0)
    for _ in range(20):
        weight = torch.empty(shape)
        INITS[init](weight)
        assert top_singular_ratio(weight) < 1.2


@pytest.mark.parametrize(
    ("weight", "trained"),
    [
        (torch.nn.init.sparse_(torch.empty(40, 40), 0.1), True),
        (torch.zeros(40, 40), False),
        (torch.randn(40, 40, generator=torch.Generator().manual_seed(0)).half(), False),
        ((torch.randint(-50, 50, (40, 40), generator=torch.Generator().manual_seed(0)) / 50), False),  # 1 % are zero
    ],
)
def test_weights_that_were_pruned_before_are_known_by_their_zeros(weight: Tensor, trained: bool):
    net = nn.Linear(40, 40, bias=False).to(weight.dtype)
    net.weight.data = weight
    assert find_pretrained(sp.Synapses(net).layers) == ("weight" if trained else "")


def test_what_one_epoch_leaves_looks_trained():
    torch.manual_seed(0)
    net = nn.LSTM(1, 64, batch_first=True)
    head = nn.Linear(64, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
    fresh = top_singular_ratio(net.weight_hh_l0)
    wave = torch.sin(torch.arange(2000) / 5)
    for step in range(60):
        x = torch.stack([wave[i : i + 25] for i in range(step * 32, step * 32 + 32)])[..., None]
        optimizer.zero_grad()
        (head(net(x[:, :24])[0][:, -1]) - x[:, -1]).square().mean().backward()
        optimizer.step()
    assert fresh < 1.05
    assert top_singular_ratio(net.weight_hh_l0) > 1.3


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (6, 5, 3, 3)])
def test_the_strongest_direction_is_the_largest_singular_value(shape: tuple[int, ...]):
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).flatten(1)
    weight += 2 * torch.outer(torch.ones(weight.shape[0]), torch.ones(weight.shape[1]))
    rows, columns = weight.shape
    expected = torch.linalg.svdvals(weight)[0] / weight.square().mean().sqrt() / (rows**0.5 + columns**0.5)
    assert top_singular_ratio(weight.view(shape)) == pytest.approx(float(expected), rel=1e-4)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_without_a_size_are_not_judged(value: float):
    assert top_singular_ratio(torch.full((4, 4), value)) == 0


@pytest.mark.parametrize("sizes", [(8, 64, 1), (3, 40, 40, 1), (1, 100, 1)])
def test_no_small_trained_network_loses_weights_at_random_in_silence(sizes: tuple[int, ...]):
    """Matrices as narrow as these have no direction that stands out, however well they were trained."""
    torch.manual_seed(0)
    layers = [(nn.Linear(*pair), nn.Tanh()) for pair in itertools.pairwise(sizes)]
    net = nn.Sequential(*[module for pair in layers for module in pair][:-1])
    x = torch.randn(128, sizes[0])
    optimizer = _adam(net)
    for _ in range(150):
        optimizer.zero_grad()
        (net(x) - x[:, :1].sin()).square().mean().backward()
        optimizer.step()
    told = pytest.warns(UserWarning, match="at random, .* do not look drawn")
    refused = pytest.raises(ValueError, match="does not look freshly initialised")
    with refused if find_pretrained(sp.Synapses(net).layers) else told:
        sp.SynapticPruner(net, optimizer, _sparse_throughout(), total_steps=STEPS)


def test_networks_as_libraries_start_them_are_not_warned_of():
    for seed in range(200):
        torch.manual_seed(seed)
        net = nn.ModuleList([nn.Linear(8, 64), nn.LSTM(4, 8), nn.Conv2d(2, 3, 3), nn.Linear(2, 1), nn.GRUCell(3, 5)])
        assert looks_drawn(sp.Synapses(net).layers)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.02)  # as transformers has it
        assert looks_drawn(sp.Synapses(net).layers)
