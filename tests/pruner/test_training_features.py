"""Whatever else a training loop does: clipping, mixed precision, averaging, freezing, compiling, dying."""

import copy
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import synaptic_pruning as sp
from helpers.processes.killed_runs import die, differences, kill_after, run_until_killed, some_step
from helpers.small_network import RAMP, STEPS, compiled_or_not, loss_of, small_net, zeros_of

RULES: dict[str, Callable[[], sp.Rule]] = {
    "magnitude": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.5)),
    "gradient": lambda: sp.ToSparsity(sp.cubic(0.8, end=0.5), score="gradient"),
    "rigl": lambda: sp.RigL(0.8, end=0.5),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_clipping_sees_no_gradient_of_a_pruned_weight(rule: Callable[[], sp.Rule]):
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    pruner = sp.SynapticPruner(net, optimizer, rule(), total_steps=STEPS, every=3)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        parameters, masks = dict(net.named_parameters()), pruner.masks()
        alive = [p.grad[masks[name]] if name in masks else p.grad.flatten() for name, p in parameters.items()]
        expected = torch.cat(alive).norm().item()
        norm = clip_grad_norm_(net.parameters(), 1e-3).item()
        dense = pruner.rule.grows and (step + 1) % 3 == 0 and not pruner.finished  # what grows needs them once more
        assert dense or norm == pytest.approx(expected, rel=1e-5)
        optimizer.step()
        for name, mask in pruner.masks().items():
            assert (optimizer.state[parameters[name]]["momentum_buffer"][~mask] == 0).all()
    assert pruner.finished


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_closure_is_trained_like_a_plain_loop(rule: Callable[[], sp.Rule]):
    nets = []
    for with_closure in (False, True):
        net = small_net()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        sp.SynapticPruner(net, optimizer, rule(), total_steps=STEPS, every=2)
        for step in range(STEPS):

            def closure(net: nn.Module = net, step: int = step) -> Tensor:
                net.zero_grad()
                loss = loss_of(net, step)
                loss.backward()
                return loss

            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        nets.append({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert differences(*nets) == []


def test_accumulated_micro_batches_are_one_step():
    nets = []
    for parts in ([slice(None)], [slice(0, 4), slice(4, 8)]):
        net = small_net().double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        pruner = sp.SynapticPruner(net, optimizer, total_steps=STEPS)
        for step in range(STEPS):
            optimizer.zero_grad()
            for rows in parts:
                x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step)).double()[rows]
                ((net(x) - x[:, :1]).square().mean() / len(parts)).backward()
            optimizer.step()
        assert pruner.steps == STEPS
        nets.append(pruner.masks())
    assert differences(*nets) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_automatic_mixed_precision(dtype: torch.dtype):
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype is torch.float16, init_scale=256.0)
    for step in range(STEPS + 2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = loss_of(net, step)
        if step in (5, 11):
            loss = loss * (float("inf") if dtype is torch.float16 else 1.0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(net.parameters(), 1.0)
        if dtype is torch.bfloat16 and step in (5, 11):
            continue
        scaler.step(optimizer)
        scaler.update()
    assert pruner.steps == STEPS  # the two overflows did not count
    assert zeros_of(net) == 63 / 70


def test_moving_and_stochastic_averages():
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    moving = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    late = AveragedModel(net)
    schedule = SWALR(optimizer, swa_lr=0.01)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()
        moving.update_parameters(net)
        if pruner.finished:
            late.update_parameters(net)
            schedule.step()
    assert zeros_of(late) == 63 / 70  # averages of equally pruned networks
    assert zeros_of(moving) == 0  # remembers the beginning
    pruner.apply_masks(moving)
    assert zeros_of(moving) == 63 / 70


def test_a_parameter_group_added_later():
    net = small_net()
    optimizer = torch.optim.Adam(net[0].parameters(), lr=0.01)
    early = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS, include=["0.weight"])
    for step in range(STEPS // 2):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()
    optimizer.add_param_group({"params": list(net[3].parameters()), "lr": 0.001})
    late = sp.SynapticPruner(
        net, optimizer, sp.ToSparsity(sp.one_shot(0.5, at=0.5)), total_steps=12, include=["3.weight"]
    )
    for step in range(STEPS // 2):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()
    assert (early.sparsity(), late.sparsity()) == (0.9, 0.5)


class _LowRank(nn.Module):
    """A frozen layer with a trained low-rank addition, as PEFT makes them."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def test_a_frozen_base_keeps_every_weight():
    net = small_net()
    net[0] = _LowRank(net[0])
    net[3].requires_grad_(False)
    before = copy.deepcopy(net[0].base.state_dict())
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()
    assert pruner.masks().keys() == {"0.down.weight", "0.up.weight"}
    assert differences(net[0].base.state_dict(), before) == []
    assert pruner.sparsity() == pytest.approx(0.9, abs=0.01)


class _Checkpointed(nn.Module):
    def __init__(self, net: nn.Module, use: bool) -> None:
        super().__init__()
        self.net, self.use = net, use

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.net, x, use_reentrant=False) if self.use else self.net(x)


def test_activation_checkpointing_changes_nothing():
    nets = []
    for use in (False, True):
        net = _Checkpointed(small_net(), use)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        sp.SynapticPruner(net, optimizer, total_steps=STEPS)
        for step in range(STEPS):
            optimizer.zero_grad()
            loss_of(net, step).backward()
            optimizer.step()
        nets.append(net.state_dict())
    assert differences(*nets) == []


def _resumable(folder: Path, last: int = STEPS, rule: str = "magnitude", fatal: int = -1) -> dict[str, Any]:
    """Train on from the checkpoint in the folder, if there is one; with dropout, whose random numbers are saved too."""
    net = small_net(dropout=0.5)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    pruner = sp.SynapticPruner(net, optimizer, RULES[rule](), total_steps=STEPS, every=2)
    file = folder / "state.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        pruner.load_state_dict(state["pruner"])
        torch.set_rng_state(state["random"])
    for step in range(pruner.steps, last):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        if step == fatal:
            die()
        optimizer.step()
        state = {
            "net": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "pruner": pruner.state_dict(),
            "random": torch.get_rng_state(),
        }
        torch.save(state, folder / "unfinished")
        (folder / "unfinished").replace(file)
    return torch.load(file, weights_only=True)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(("rule", "seed"), [("magnitude", 5), ("gradient", 6), ("rigl", 7)])
def test_a_killed_loop_goes_on_as_if_nothing_had_happened(tmp_path: Path, rule: str, seed: int):
    step = some_step(seed)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = _resumable(tmp_path / "whole", rule=rule)
    run_until_killed(_resumable, tmp_path / "killed", STEPS, rule, step)
    assert torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["pruner"]["steps"] == step
    assert differences(_resumable(tmp_path / "killed", rule=rule), whole) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_killed_at_any_moment_a_loop_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    """Not between two steps as above, but while a step is taken or a checkpoint is written."""
    rng, whole = random.Random(0), tmp_path / "whole"
    whole.mkdir()
    began = time.monotonic()
    run_until_killed(_resumable, whole, STEPS, "rigl", STEPS - 1)
    seconds, wanted = time.monotonic() - began, _resumable(whole, rule="rigl")
    killed = 0
    for point in itertools.count():
        if killed == 50:
            break
        folder = tmp_path / str(point)
        folder.mkdir()
        killed += kill_after(rng.uniform(0.05, 0.95) * seconds, _resumable, folder, STEPS, "rigl")
        assert differences(_resumable(folder, rule="rigl"), wanted) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_model_and_optimizer_compiled_to_machine_code():
    masks = []
    for compiled in (False, True):
        net, pruner = compiled_or_not(compiled)
        assert pruner.steps == STEPS
        masks.append(pruner.masks())
        assert zeros_of(net) == 63 / 70
    assert differences(*masks) == []
