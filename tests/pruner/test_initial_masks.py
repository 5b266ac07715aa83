"""With which masks a training begins, and that no start destroys what has been learnt."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.small_network import pruned_are_zero
from synaptic_pruning.rules.dynamic.pretrained import find_trained, strongest_direction

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


def test_the_default_starts_sparse_and_scaled_and_stays_at_its_sparsity():
    net, fresh = _net(), _net()
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
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


def test_learnt_weights_are_not_removed_at_random():
    net = _learnt()
    before = copy.deepcopy(net.state_dict())
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
    assert pruner.sparsity() == 0
    with pytest.raises(
        ValueError,
        match=r"^\d\.weight does not look freshly initialised, .* 80% .* rule=ToSparsity\(.*load the pruner's",
    ):
        _learn(net, optimizer, 0, 1)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    pruner.remove()
    sp.SynapticPruner(net, optimizer, sp.ToSparsity(sp.cubic(0.8, begin=0.3, end=0.8)), total_steps=STEPS)
    _learn(net, optimizer, 0, STEPS)


def _interrupted() -> tuple[list, dict[str, Tensor], dict[str, Tensor]]:
    """Return a checkpoint from half way, and the weights and masks at the end."""
    net = _net()
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
    _learn(net, optimizer, 0, 25)
    checkpoint = copy.deepcopy([net.state_dict(), optimizer.state_dict(), pruner.state_dict()])
    _learn(net, optimizer, 25, STEPS)
    return checkpoint, net.state_dict(), pruner.masks()


def _weights_first(net: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: list) -> sp.SynapticPruner:
    net.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
    pruner.load_state_dict(checkpoint[2])
    return pruner


def _pruner_first(net: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: list) -> sp.SynapticPruner:
    pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
    net.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    pruner.load_state_dict(checkpoint[2])
    return pruner


def _at_once(net: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: list) -> sp.SynapticPruner:
    net.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    return sp.SynapticPruner(net, optimizer, total_steps=STEPS, state=checkpoint[2])


@pytest.mark.parametrize("order", [_weights_first, _pruner_first, _at_once])
def test_in_whatever_order_a_checkpoint_is_loaded(order: Callable[..., sp.SynapticPruner]):
    checkpoint, weights, masks = _interrupted()
    net = _net(seed=1)
    optimizer = _adam(net)
    pruner = order(net, optimizer, checkpoint)
    _learn(net, optimizer, 25, STEPS)
    assert all(torch.equal(mask, masks[name]) for name, mask in pruner.masks().items())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_weights_that_come_after_the_pruner_are_not_zeroed_in_silence():
    net = _net()
    optimizer = _adam(net)
    sp.SynapticPruner(net, optimizer, sp.SET(0.8), total_steps=STEPS)
    learnt = _learnt().state_dict()
    net.load_state_dict(learnt)
    with pytest.raises(ValueError, match=r"0\.weight was given weights after the pruner .* before the pruner"):
        _learn(net, optimizer, 0, 1)
    assert all(torch.equal(value, learnt[name]) for name, value in net.state_dict().items())


def test_a_checkpoint_is_refused_once_the_start_has_zeroed_its_weights():
    """An explicit rule starts on whatever there is, so that weights loaded before are lost; that must not pass."""
    net = _net()
    optimizer = _adam(net)
    pruner = sp.SynapticPruner(net, optimizer, sp.SET(0.8), total_steps=STEPS)
    _learn(net, optimizer, 0, 25)
    checkpoint = copy.deepcopy([net.state_dict(), pruner.state_dict()])
    resumed = _net(seed=1)
    resumed.load_state_dict(checkpoint[0])
    late = sp.SynapticPruner(resumed, _adam(resumed), sp.SET(0.8), total_steps=STEPS)
    masks = late.masks()
    with pytest.raises(ValueError, match=r"zeroed weights that were loaded before; .* state="):
        late.load_state_dict(checkpoint[1])
    assert all(torch.equal(mask, masks[name]) for name, mask in late.masks().items())
    resumed.load_state_dict(checkpoint[0])
    late.load_state_dict(checkpoint[1])
    assert all(torch.equal(value, checkpoint[0][name]) for name, value in resumed.state_dict().items())


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
        assert strongest_direction(weight) < 1.2


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
    assert find_trained(sp.Synapses(net).layers) == ("weight" if trained else "")


def test_what_one_epoch_leaves_looks_trained():
    torch.manual_seed(0)
    net = nn.LSTM(1, 64, batch_first=True)
    head = nn.Linear(64, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
    fresh = strongest_direction(net.weight_hh_l0)
    wave = torch.sin(torch.arange(2000) / 5)
    for step in range(60):
        x = torch.stack([wave[i : i + 25] for i in range(step * 32, step * 32 + 32)])[..., None]
        optimizer.zero_grad()
        (head(net(x[:, :24])[0][:, -1]) - x[:, -1]).square().mean().backward()
        optimizer.step()
    assert fresh < 1.05
    assert strongest_direction(net.weight_hh_l0) > 1.3


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (6, 5, 3, 3)])
def test_the_strongest_direction_is_the_largest_singular_value(shape: tuple[int, ...]):
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).flatten(1)
    weight += 2 * torch.outer(torch.ones(weight.shape[0]), torch.ones(weight.shape[1]))
    rows, columns = weight.shape
    expected = torch.linalg.svdvals(weight)[0] / weight.square().mean().sqrt() / (rows**0.5 + columns**0.5)
    assert strongest_direction(weight.view(shape)) == pytest.approx(float(expected), rel=1e-4)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_without_a_size_are_not_judged(value: float):
    assert strongest_direction(torch.full((4, 4), value)) == 0
