"""What every rule must hold to, on every kind of network and with every optimizer.

A new rule is one row in `RULES`: a factory, and how many weights must be pruned at a progress (None: anything goes).
"""

import copy
import io
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import synaptic_pruning as sp
from helpers.combinations import covering_array, in_turn, quick_or_slow
from helpers.networks import DEVICE, NETWORKS, OPTIMIZERS

STEPS, EVERY = 14, 2
CUBIC = sp.cubic(0.8, begin=0.1, end=0.7)

RULES: dict[str, tuple[Callable[[], sp.Rule], Callable[[float, int], int] | None]] = {
    "magnitude": (lambda: sp.ToSparsity(CUBIC), lambda p, n: round(CUBIC(p) * n)),
    "layer": (lambda: sp.ToSparsity(CUBIC, scope="layer"), lambda p, n: round(CUBIC(p) * n)),
    "usage": (lambda: sp.ToSparsity(CUBIC, score="usage"), lambda p, n: round(CUBIC(p) * n)),
    "gradient": (lambda: sp.ToSparsity(CUBIC, score="gradient"), lambda p, n: round(CUBIC(p) * n)),
    "random": (lambda: sp.ToSparsity(CUBIC, score="random"), lambda p, n: round(CUBIC(p) * n)),
    "one-shot": (lambda: sp.ToSparsity(sp.one_shot(0.8, at=0.3)), lambda p, n: round(0.8 * n) if p >= 0.3 else 0),
    "pattern": (lambda: sp.ToSparsity(sp.cubic(0.75, begin=0.1, end=0.7), pattern=(1, 4)), None),
    "disuse": (lambda: sp.Disuse(patience=2, threshold=0.9), None),
    "disuse-window": (lambda: sp.Disuse(patience=2, threshold=0.9, window=2, sample=1), None),
    "survival": (lambda: sp.Survival(cost=2.0, conv_cost=2.0, initial=4.0), None),
    "set": (lambda: sp.SET(0.8), lambda p, n: round(0.8 * n)),
    "rigl": (lambda: sp.RigL(0.8), lambda p, n: round(0.8 * n)),
    "rigl-pattern": (lambda: sp.RigL(0.75, pattern=(1, 4)), None),
    "granet": (lambda: sp.GraNet(0.8, begin=0.1, ramp_end=0.7), lambda p, n: round(CUBIC(p) * n)),
    "cycles": (lambda: sp.Cycles(0.8, members=3, first=0.5), None),
    "units": (lambda: sp.Units(CUBIC), None),
    "inputs": (lambda: sp.Inputs(CUBIC), None),
    "default": (lambda: sp.default_rule(total_steps=STEPS), lambda p, n: round(sp.cubic(0.8, end=0.5)(p) * n)),
    "vos2025": (lambda: sp.vos2025(warmup=0.1, epochs=10), None),
}
FACTORS = [list(RULES), list(NETWORKS), list(OPTIMIZERS)]
rules = pytest.mark.parametrize("rule", RULES)


def _start(
    network: str,
    rule: str,
    optimizer: str = "adam",
    wrap: Callable[[nn.Module], nn.Module] = lambda m: m,
    compensate: float | None = None,
):
    torch.manual_seed(3)
    model, loss = NETWORKS[network]()
    model = wrap(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = OPTIMIZERS[optimizer](trained)
    pruner = sp.SynapticPruner(model, opt, RULES[rule][0](), total_steps=STEPS, every=EVERY, compensate=compensate)
    return model, loss, opt, pruner


def _step(model: nn.Module, loss: Callable[[nn.Module], Tensor], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()


def _named(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name.removeprefix("_orig_mod."): p for name, p in model.named_parameters()}


def _check_pruned(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: sp.SynapticPruner) -> None:
    parameters = _named(model)
    for name, mask in pruner.masks().items():
        _check_zero(name, parameters[name], ~mask, optimizer, pruner.rule.grows)


def _check_zero(
    name: str, parameter: nn.Parameter, where: Tensor, optimizer: torch.optim.Optimizer, grows: bool
) -> None:
    """Zero, and nothing remembered; a second moment moves nothing, so it may stay of weights that never come back."""
    assert not (parameter.detach().ne(0) & where).any(), (
        f"{name}: a weight that is pruned, or was grown just now, is not zero"
    )
    for key, value in optimizer.state[parameter].items():
        if value.shape == parameter.shape and (grows or key not in ("exp_avg_sq", "max_exp_avg_sq", "square_avg")):
            assert not (value.ne(0) & where).any(), f"{name}: {key} remembers such a weight"


def _train_checked(model, loss, optimizer, pruner, rule: str) -> None:
    expected, before = RULES[rule][1], pruner.masks()
    total, parameters = sum(mask.numel() for mask in before.values()), _named(model)
    for step in range(1, STEPS + 1):
        _step(model, loss, optimizer)
        masks = pruner.masks()
        grown = {name: masks[name] & ~before[name] for name in masks}
        assert pruner.rule.grows or not any(mask.any() for mask in grown.values()), "a pruned weight came back"
        for name, mask in grown.items():
            _check_zero(name, parameters[name], mask, optimizer, pruner.rule.grows)
        _check_pruned(model, optimizer, pruner)
        if step % EVERY == 0 and expected is not None:
            pruned = sum(int((~mask).sum()) for mask in masks.values())
            assert pruned == expected(step / STEPS, total)
        before = masks
    assert pruner.finished
    assert pruner.sparsity() > (0.0 if rule == "inputs" else 0.4)  # which leaves all layers but one alone
    assert pruner.summary().to_dict()["total"]["sparsity"] == pruner.sparsity()


@pytest.mark.parametrize("sizes", [(15, 10, 8), (8, 15, 10), (3, 3, 3), (1, 4, 2), tuple(map(len, FACTORS))])
def test_every_pair_occurs_in_as_few_rows_as_can_hold_them(sizes):
    factors = [[f"{factor}{value}" for value in range(size)] for factor, size in enumerate(sizes)]
    rows = covering_array(*factors)
    for one, other in itertools.combinations(range(3), 2):
        assert {(row[one], row[other]) for row in rows} == set(itertools.product(factors[one], factors[other]))
    assert len(rows) == len(set(rows)) == max(map(math.prod, itertools.combinations(sizes, 2)))


@quick_or_slow(("rule", "network", "optimizer"), covering_array(*FACTORS), *FACTORS)
def test_every_rule_network_and_optimizer(rule, network, optimizer):
    model, loss, opt, pruner = _start(network, rule, optimizer)
    keys = list(model.state_dict())
    identities = [id(p) for p in model.parameters()]
    _train_checked(model, loss, opt, pruner, rule)
    assert list(model.state_dict()) == keys
    assert [id(p) for p in model.parameters()] == identities
    assert all(p.isfinite().all() for p in model.parameters())


# Quick: every network and every optimizer once, with every other rule.
ONCE = set(zip(itertools.cycle(list(RULES)[::2]), NETWORKS, itertools.cycle(OPTIMIZERS), strict=False))


@quick_or_slow(("rule", "network", "optimizer"), ONCE, *FACTORS)
def test_compensated_training_is_one_with_rates_set_by_hand(rule, network, optimizer):
    model, loss, opt, pruner = _start(network, rule, optimizer, compensate=2)
    by_hand, same_loss, its_opt, its_pruner = _start(network, rule, optimizer, compensate=1)
    base = opt.param_groups[0]["lr"]
    for _ in range(STEPS):
        _step(model, loss, opt)
        assert opt.param_groups[0]["lr"] is base
        _check_pruned(model, opt, pruner)
        masks = its_pruner.masks().values()
        alive, total = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
        its_opt.param_groups[0]["lr"] = base * min(math.sqrt(total / alive), 2)
        _step(by_hand, same_loss, its_opt)
        _check_pruned(by_hand, its_opt, its_pruner)
    assert pruner.finished
    ours, theirs = ({**net.state_dict(), **p.masks()} for net, p in ((model, pruner), (by_hand, its_pruner)))
    assert all(value.isfinite().all() and torch.equal(value, theirs[name]) for name, value in ours.items())


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    "float64": lambda: _default_dtype(torch.float64),
    "bfloat16": lambda: _default_dtype(torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}


@in_turn(("rule", "default"), list(RULES), list(DEFAULTS))
def test_defaults_of_dtype_and_device_change_nothing(rule, default):
    ends = []
    for context in (nullcontext, DEFAULTS[default]):
        torch.manual_seed(3)
        model, loss = NETWORKS["lstm"]()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
        with context():
            pruner = sp.SynapticPruner(model, optimizer, RULES[rule][0](), total_steps=STEPS, every=EVERY)
            for step in range(STEPS):
                optimizer.zero_grad()
                with _default_dtype(torch.float32), torch.device(DEVICE):
                    value = loss(model)
                value.backward()
                optimizer.step()
                if step == STEPS // 2:
                    pruner.load_state_dict(pruner.state_dict())
            pruner.summary()
        ends.append({**model.state_dict(), **pruner.masks()})
        pruner.remove()
    assert all(torch.equal(ends[1][name], value) for name, value in ends[0].items())


@in_turn(("rule", "network"), list(RULES), ["mlp", "lstm", "transformer", "tied"])
def test_resumed_run_equals_uninterrupted_run(network, rule):
    whole_model, loss, whole_optimizer, whole = _start(network, rule)
    for _ in range(STEPS):
        _step(whole_model, loss, whole_optimizer)

    model, loss, optimizer, pruner = _start(network, rule)
    for _ in range(STEPS // 2):
        _step(model, loss, optimizer)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), pruner.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    torch.manual_seed(99)  # another start, which the checkpoint must overwrite
    model, _ = NETWORKS[network]()
    optimizer = OPTIMIZERS["adam"](list(model.parameters()))
    pruner = sp.SynapticPruner(model, optimizer, RULES[rule][0](), total_steps=STEPS, every=EVERY)
    for part, state in zip((model, optimizer, pruner), states, strict=True):
        part.load_state_dict(state)
    for _ in range(STEPS - STEPS // 2):
        _step(model, loss, optimizer)

    assert all(torch.equal(mask, whole.masks()[name]) for name, mask in pruner.masks().items())
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole_model.state_dict()[name]), name
    ours, theirs = optimizer.state_dict()["state"], whole_optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i][key], theirs[i][key]) for i in ours for key in ours[i])


@in_turn(("rule", "network"), list(RULES), ["mlp", "lstm", "transformer"])
def test_deepcopy_and_moving_average(network, rule):
    model, loss, optimizer, pruner = _start(network, rule)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(STEPS):
        _step(model, loss, optimizer)
        average.update_parameters(model)
    twin = copy.deepcopy(model)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    pruner.apply_masks(average)
    for name, mask in pruner.masks().items():
        averaged = dict(average.module.named_parameters())[name]
        assert (averaged[~mask] == 0).all()
        assert (averaged[mask] != 0).any()
    average.module.load_state_dict(model.state_dict())  # no key was added or lost


@rules
@pytest.mark.parametrize("fused", [False, True])
def test_only_real_steps_count(rule, fused):
    model, loss, _, pruner = _start("mlp", rule)
    pruner.remove()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    pruner = sp.SynapticPruner(model, optimizer, RULES[rule][0](), total_steps=STEPS, every=EVERY)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=4.0)
    for batch in range(12):  # two batches a step; every third step overflows
        value = loss(model) * (float("inf") if batch // 2 % 3 == 2 else 1.0)
        scaler.scale(value).backward()
        if batch % 2:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            _check_pruned(model, optimizer, pruner)
    assert pruner.steps == 4


# Quick: one that sees activity, one that sees gradients and grows, and the default.
@quick_or_slow(("rule",), {("default",), ("usage",), ("granet",)}, list(RULES))
def test_compiled_model_and_step(rule):
    torch._dynamo.reset()  # hooks of a network like one compiled before, in another test, would not be seen
    model, loss, optimizer, pruner = _start("mlp", rule, wrap=lambda m: torch.compile(m, backend="eager"))
    assert all("_orig_mod" not in name for name in pruner.masks())
    _train_checked(model, loss, optimizer, pruner, rule)

    model, loss, optimizer, pruner = _start("mlp", rule)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model).backward()
        step()
        _check_pruned(model, optimizer, pruner)
    assert pruner.steps == STEPS
    assert pruner.finished


@in_turn(("rule", "network"), list(RULES), ["mlp", "lstm", "transformer"])
def test_every_event_is_a_function_of_the_past_alone(network, rule):
    first, second = _start(network, rule), _start(network, rule)
    for _ in range(STEPS):
        for model, loss, optimizer, _ in (first, second):
            _step(model, loss, optimizer)
    assert all(torch.equal(mask, second[3].masks()[name]) for name, mask in first[3].masks().items())
