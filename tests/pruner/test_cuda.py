"""On a GPU (`make test-cuda`): the same masks as on a CPU, no waiting for the device, and what only a GPU has."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import synaptic_pruning as sp
from helpers.small_network import RAMP, STEPS, compiled_or_not, learn_step, loss_of, small_net, zeros_of
from synaptic_pruning.core import Synapses
from synaptic_pruning.core.activity import ActivityMonitor
from synaptic_pruning.core.topk import LazyScores, kth_smallest, smallest_k

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RULES: dict[str, Callable[[], sp.Rule]] = {
    "magnitude": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.7)),
    "layer": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.7), scope="layer"),
    "gradient": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.7), score="gradient"),
    "random": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.7), score="random"),
    "set": lambda: sp.SET(0.8, seed=3),
    "rigl": lambda: sp.RigL(0.8, seed=3),
    "granet": lambda: sp.GraNet(0.8, begin=0.1, ramp_end=0.7),
    "vos2025": lambda: sp.vos2025(warmup=0.1, epochs=8),
}


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 16, num_layers=2, batch_first=True), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1000, 3_000_000])  # at once, and streamed
def test_the_smallest_are_those_of_a_cpu(dtype: torch.dtype, size: int):
    values = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(dtype)
    values[::3] = values[0]  # ties, decided by position
    alive = torch.rand(size, generator=torch.Generator().manual_seed(2)) < 0.7
    parts = [values[: size // 3], values[size // 3 :]]
    for k in (1, size // 7, size // 2):
        assert kth_smallest([part.cuda() for part in parts], k) == kth_smallest(parts, k)
        found = smallest_k([part.cuda() for part in parts], k)
        assert all(a.is_cuda and torch.equal(a.cpu(), b) for a, b in zip(found, smallest_k(parts, k), strict=True))
        found = smallest_k([LazyScores.of(values.cuda(), alive=alive.cuda())], k)
        assert torch.equal(found[0].cpu(), smallest_k([LazyScores.of(values, alive=alive)], k)[0])
    mixed = smallest_k([parts[0].cuda(), parts[1]], size // 2)
    assert [part.device.type for part in mixed] == ["cuda", "cpu"]
    assert all(torch.equal(a.cpu(), b) for a, b in zip(mixed, smallest_k(parts, size // 2), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_masks_are_those_of_a_cpu(rule: str):
    """Both are given the same gradients, and the arithmetic is exact, so that nothing but the pruner is compared."""
    torch.manual_seed(0)
    nets: list[nn.Module] = [_Recurrent()]
    nets.append(copy.deepcopy(nets[0]).cuda())
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.25) for net in nets]
    pruners = [
        sp.SynapticPruner(net, optimizer, RULES[rule](), total_steps=STEPS, every=3)
        for net, optimizer in zip(nets, optimizers, strict=True)
    ]
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
            ours.grad = torch.randint(-8, 9, ours.shape, generator=generator) / 64
            theirs.grad = ours.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()
        masks = [pruner.masks() for pruner in pruners]
        for name, mask in masks[0].items():
            assert masks[1][name].is_cuda
            assert torch.equal(mask, masks[1][name].cpu()), (step, name)
    assert pruners[1].finished
    assert pruners[1].sparsity() > 0.5
    for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(ours, theirs.cpu())


def test_activity_is_that_of_a_cpu():
    for make, shape in (
        (_Recurrent, (8, 5, 4)),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 9, 9)),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (4, 5, 8)),
    ):
        torch.manual_seed(0)
        net = make().double()
        x = torch.randn(shape, dtype=torch.float64)
        means = []
        for model, given in ((net, x), (copy.deepcopy(net).cuda(), x.cuda())):
            activity = ActivityMonitor(model, Synapses(model))
            model(given)
            means.append(activity.end_window())
        assert all(b is not None and b.is_cuda for b in means[1])
        torch.testing.assert_close([b.cpu() for b in means[1] if b is not None], means[0])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", [small_net, _Recurrent], ids=["mlp", "lstm"])
def test_no_step_waits_for_the_device_but_those_with_an_event(make: Callable[[], nn.Module], fused: bool):
    net = make().cuda()
    x = torch.randn((8, 6) if make is small_net else (8, 5, 4), device="cuda")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=fused)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS, every=4)
    for step in range(1, STEPS + 1):
        event = step % 4 == 0 or step < 4  # the first steps set PyTorch itself up
        torch.cuda.set_sync_debug_mode("default" if event else "error")
        try:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert pruner.finished


@pytest.mark.parametrize("size", [64, 1100])  # with a gate, and too large for one
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pruned_weights_are_zero_whatever_they_held(size: int, dtype: torch.dtype):
    net = nn.Linear(size, size, bias=False).to("cuda", dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    pruner = sp.SynapticPruner(net, optimizer, sp.SET(0.9), total_steps=STEPS, every=STEPS)
    pruned = ~pruner.masks()["weight"]
    kept = net.weight.detach().clone()
    net.weight.grad = torch.zeros_like(net.weight)
    with torch.no_grad():
        net.weight[pruned] = torch.tensor([float("nan"), float("inf"), -3.0], device="cuda", dtype=dtype)[
            torch.arange(int(pruned.sum()), device="cuda") % 3
        ]
    optimizer.step()
    assert (net.weight[pruned] == 0).all()
    assert torch.equal(net.weight[~pruned], kept[~pruned])
    assert (pruner.synapses.layers[0].gate is None) == (size == 1100)


@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_with_a_scaler(fused: bool):
    net = small_net().cuda()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=fused)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    for step in range(STEPS + 2):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = loss_of(net, step)
        scaler.scale(loss * (float("inf") if step in (5, 11) else 1.0)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert pruner.steps == STEPS  # the two overflows did not count
    assert zeros_of(net) == 63 / 70
    assert all(p.isfinite().all() for p in net.parameters())


def test_a_network_may_be_moved_after_the_pruner_is_attached():
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, sp.SET(0.8), total_steps=STEPS, every=6)
    for step in range(STEPS):
        if step == 1:
            net.cuda()
        if step == 14:
            net.cpu()
        learn_step(net, optimizer, step)
        masks = pruner.masks()
        for name, parameter in net.named_parameters():
            if name in masks:
                assert (parameter[~masks[name].to(parameter.device)] == 0).all()
                if (step + 1) % 6:
                    assert (parameter.grad[~masks[name].to(parameter.device)] == 0).all()
    assert pruner.finished
    assert pruner.sparsity() == 56 / 70


def test_a_checkpoint_goes_from_gpu_to_cpu_and_back():
    def start(device: str) -> tuple[nn.Module, torch.optim.Optimizer, sp.SynapticPruner]:
        net = small_net().to(device)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        return net, optimizer, sp.SynapticPruner(net, optimizer, sp.GraNet(0.8), total_steps=STEPS, every=2)

    parts: Any = start("cuda")
    for first, device in ((0, "cuda"), (8, "cpu"), (16, "cuda")):
        if first:
            file = io.BytesIO()
            torch.save([part.state_dict() for part in parts], file)
            file.seek(0)
            masks = parts[2].masks()
            parts = start(device)
            for part, state in zip(parts, torch.load(file, weights_only=True, map_location=device), strict=True):
                part.load_state_dict(state)
            assert all(torch.equal(mask.cpu(), masks[name].cpu()) for name, mask in parts[2].masks().items())
        for step in range(first, first + 8):
            learn_step(parts[0], parts[1], step)
    assert parts[2].finished
    assert zeros_of(parts[0]) == 56 / 70


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])  # the latter replays CUDA graphs
def test_compiled(mode: str):
    torch._dynamo.reset()
    nets = []
    for compiled in (False, True):
        net, pruner = compiled_or_not(compiled, "cuda", mode)
        assert pruner.steps == STEPS
        assert zeros_of(net) == 63 / 70
        nets.append(net.state_dict())
    torch.testing.assert_close(*nets)


def test_a_step_inside_a_cuda_graph_is_refused():
    net = small_net().cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, capturable=True)
    sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    x = torch.randn(8, 6, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="leave the step out of the graph"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()
