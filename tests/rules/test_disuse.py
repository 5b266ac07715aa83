import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 2)
    )  # fmt: skip


class _BruteForce:
    """Disuse as in its docstring, on stored activations and Python loops over the connections."""

    def __init__(self, net: nn.Sequential, patience: int, threshold: float) -> None:
        self.net, self.patience, self.threshold = net, patience, threshold
        self.places, self.steps = [0, 3, 5], 0
        self.streaks = [[0] * net[i].weight.numel() for i in self.places]
        self.alive = [[True] * net[i].weight.numel() for i in self.places]
        self.inputs: list[list[Tensor]] = [[] for _ in self.places]

    def see(self, x: Tensor) -> None:
        for i, module in enumerate(self.net):
            if i in self.places:
                columns = nn.functional.unfold(x, 3).transpose(1, 2).flatten(0, 1) if i == 0 else x
                self.inputs[self.places.index(i)].append(columns.detach())
            x = module(x)

    def step(self, *_: object) -> None:
        self.steps += 1
        if self.steps % 3 == 0:
            self.end_window()

    def end_window(self) -> None:
        for n, i in enumerate(self.places):
            seen = torch.cat(self.inputs[n]).abs().mean(0)
            weight = self.net[i].weight.detach().flatten(1)
            used = (weight.abs() * seen).flatten().tolist()
            alive = self.alive[n]
            limit = self.threshold * sum(used) / max(1, sum(alive))
            for j, u in enumerate(used):
                self.streaks[n][j] = self.streaks[n][j] + 1 if u == 0 or u < limit else 0
            dying = {j for j, s in enumerate(self.streaks[n]) if alive[j] and s >= self.patience}
            columns = weight.shape[1]
            for row in range(weight.shape[0]):  # an output unit keeps its most used connection
                mine = [j for j in range(row * columns, (row + 1) * columns) if alive[j]]
                if mine and dying.issuperset(mine):
                    dying.remove(max(mine, key=lambda j: used[j]))
            for j in dying:
                alive[j] = False
            self.inputs[n] = []


def test_training_equals_brute_force_with_gradient_accumulation():
    net = _net().double()  # so that sums in another order hardly ever change a comparison
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    rule = sp.Disuse(patience=2, threshold=0.6, end=1.0, sample=1)
    reference = _BruteForce(net, 2, 0.6)
    optimizer.register_step_post_hook(reference.step)  # before the pruner changes the stepped weights
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=24, every=3)
    for step in range(1, 25):
        optimizer.zero_grad()
        for size in (3, 5):  # two batches a step
            x = torch.rand(size, 1, 6, 6, dtype=torch.float64) * torch.linspace(0, 1, 6)
            reference.see(x)
            (net(x)[:, 0] - x.mean((1, 2, 3))).square().mean().backward()
        optimizer.step()
        if step % 3 == 0:
            for mask, alive in zip(pruner.masks().values(), reference.alive, strict=True):
                assert mask.flatten().tolist() == alive
    assert 0.4 < pruner.sparsity() < 0.95
    assert [streak.flatten().tolist() for streak in rule.streaks()] == reference.streaks


def _one_layer(rule: sp.Disuse, inputs: Tensor, steps: int, outputs: int = 1) -> tuple[nn.Linear, sp.SynapticPruner]:
    net = nn.Linear(inputs.shape[-1], outputs, bias=False)
    nn.init.ones_(net.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=100, every=1)
    for step in range(steps):
        net(inputs[step % len(inputs)][None]).sum().backward()
        optimizer.step()
    return net, pruner


def test_a_busy_window_ends_the_streak():
    # Connection 0 is always busy; 1 is idle for good; 2 is idle twice, then busy; threshold 0: idle is exactly silent.
    inputs = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 1]])
    _, pruner = _one_layer(sp.Disuse(patience=3, threshold=0.0), inputs, 3)
    assert pruner.masks()["weight"].tolist() == [[True, False, True]]
    _, pruner = _one_layer(sp.Disuse(patience=3, threshold=0.0), inputs, 30)
    assert pruner.masks()["weight"].tolist() == [[True, False, True]]
    _, pruner = _one_layer(sp.Disuse(patience=2, threshold=0.0), inputs, 3)
    assert pruner.masks()["weight"].tolist() == [[True, False, False]]


def test_a_window_of_its_own_length_counts_steps_not_events():
    inputs = torch.tensor([[1.0, 0.0]])
    for steps, gone in ((19, 0.0), (20, 0.5)):
        _, pruner = _one_layer(sp.Disuse(patience=2, threshold=0.0, window=10), inputs, steps)
        assert pruner.sparsity() == gone


def test_streaks_take_one_byte_and_do_not_wrap():
    rule = sp.Disuse(patience=255, threshold=0.0, end=1.0)
    net = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=400, every=1)
    for step in range(300):
        assert pruner.sparsity() == (0.5 if step >= 255 else 0)
        net(torch.tensor([[1.0, 0.0]])).sum().backward()
        optimizer.step()
    assert rule.streaks()[0].dtype == torch.uint8
    assert rule.streaks()[0].tolist() == [[0, 255]]


def test_floors_keep_every_layer_and_every_output_unit():
    rule = sp.Disuse(patience=1, threshold=1e9, max_layer_sparsity=0.9)
    _, pruner = _one_layer(rule, torch.rand(1, 50) + 0.1, 1, outputs=4)
    mask = pruner.masks()["weight"]
    assert int(mask.sum()) == 200 - int(0.9 * 200)
    rule = sp.Disuse(patience=1, threshold=1e9)
    _, pruner = _one_layer(rule, torch.arange(1.0, 51)[None], 1, outputs=4)
    assert pruner.masks()["weight"].nonzero().tolist() == [[unit, 49] for unit in range(4)]  # the most used one


@pytest.mark.parametrize("layer", [nn.LSTM(6, 5, batch_first=True), nn.ConvTranspose2d(6, 4, 2, groups=2)], ids=str)
def test_floors_know_gates_and_transposed_convolutions(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    pruner = sp.SynapticPruner(layer, optimizer, sp.Disuse(patience=1, threshold=1e9), total_steps=10, every=1)
    x = torch.rand(2, 3, 6) if isinstance(layer, nn.LSTM) else torch.rand(2, 6, 3, 3)
    out = layer(x)
    (out[0] if isinstance(out, tuple) else out).sum().backward()
    optimizer.step()
    assert pruner.sparsity() > 0.8
    assert pruner.summary().total.unreached_units == 0


def test_mixed_precision_and_skipped_steps():
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    rule = sp.Disuse(patience=2, threshold=0.7, sample=1)
    pruner = sp.SynapticPruner(net, optimizer, rule, total_steps=10, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(torch.rand(8, 1, 6, 6)).square().mean() * (float("inf") if step == 4 else 1.0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert pruner.steps == 9
    assert pruner.finished
    assert pruner.sparsity() > 0.3


def test_a_layer_that_is_never_called_is_said_and_left_alone():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, sp.Disuse(patience=1, threshold=1e9), total_steps=10, every=1)
    nn.functional.linear(net[0](torch.randn(2, 4)), net[1].weight).sum().backward()
    with pytest.warns(UserWarning, match=r"1\.weight saw no finite input in a window of 1 steps"):
        optimizer.step()
    assert pruner.masks()["1.weight"].all()
    assert pruner.masks()["0.weight"].sum() == 4


def test_removal_detaches_the_hooks():
    net = _net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, sp.Disuse(), total_steps=10)
    assert all(net[i]._forward_hooks for i in (0, 3, 5))
    pruner.remove()
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "patience=0 must be a number of windows from 1 to 255"),
        ({"patience": 256}, "patience=256"),
        ({"threshold": -0.1}, r"threshold=-0\.1"),
        ({"window": 0}, "window=0 must be at least 1"),
        ({"end": 0.0}, r"end=0\.0 must be"),
        ({"max_layer_sparsity": 1.0}, "1 would empty a layer"),
        ({"sample": 0}, "sample=0"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.Disuse(**arguments)


def test_a_refused_rule_leaves_nothing_behind():
    rule = sp.Disuse()
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    sp.SynapticPruner(first, torch.optim.SGD(first.parameters()), rule, total_steps=10)
    optimizer = torch.optim.SGD(second.parameters())
    with pytest.raises(ValueError, match="already serves another pruner"):
        sp.SynapticPruner(second, optimizer, rule, total_steps=10)
    sp.SynapticPruner(second, optimizer, sp.Disuse(), total_steps=10)  # not claimed
    assert len(second._forward_hooks) == 1


def test_weights_that_are_not_finite_are_refused():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    sp.SynapticPruner(net, optimizer, sp.Disuse(), total_steps=10)
    (net(torch.ones(1, 2)).sum() * float("nan")).backward()
    with pytest.raises(ValueError, match="weight has a weight that is not finite"):
        optimizer.step()
