"""Accelerate: the loop stays a plain one; its wrapped optimizer is seen through."""

import copy
import pickle
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import synaptic_pruning as sp
from helpers.processes.killed_runs import die, differences, run_until_killed, some_step
from helpers.small_network import RAMP, STEPS

pytestmark = [pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")]


def _train(folder: Path, fatal: int = -1, resume: bool = False, **arguments: Any) -> dict[str, Any]:
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(0.3), nn.Linear(10, 1))
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    accelerator = accelerate.Accelerator(cpu=True, **arguments)
    net, optimizer, loader = accelerator.prepare(
        net, torch.optim.Adam(net.parameters(), lr=0.01), DataLoader(TensorDataset(x, x[:, :1]), batch_size=4)
    )
    epochs = 3 * accelerator.gradient_accumulation_steps
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS, every=2)
    accelerator.register_for_checkpointing(pruner)
    if resume:
        accelerator.load_state(str(folder))
    for _ in range(pruner.steps // 8, epochs):
        for inputs, targets in loader:
            with accelerator.accumulate(net):
                loss = (net(inputs) - targets).square().mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), 1.0)
                if pruner.steps == fatal:
                    die()
                optimizer.step()
                optimizer.zero_grad()
        accelerator.save_state(str(folder))
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "pruner": pruner.state_dict()}


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    """With dropout too: Accelerate saves the state of the random numbers."""
    step = some_step(8)
    whole = _train(tmp_path / "whole")
    assert whole["pruner"]["finished"]
    run_until_killed(_train, tmp_path / "killed", step)
    assert differences(_train(tmp_path / "killed", resume=True), whole) == []


@pytest.mark.parametrize("arguments", [{"gradient_accumulation_steps": 2}, {"mixed_precision": "bf16"}], ids=str)
def test_only_real_steps_count(tmp_path: Path, arguments: dict[str, Any]):
    state = _train(tmp_path, **arguments)
    assert state["pruner"]["steps"] == STEPS
    zeros = sum(int((state["net"][name] == 0).sum()) for name in ("0.weight", "3.weight"))
    assert zeros == 63


def test_copies(tmp_path: Path):
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True)
    torch.manual_seed(0)
    net = nn.Linear(10, 10)
    net, optimizer = accelerator.prepare(net, torch.optim.Adam(net.parameters()))
    pruner = sp.SynapticPruner(net, optimizer, RAMP, total_steps=STEPS)
    for _ in range(STEPS):
        accelerator.backward(net(torch.randn(4, 10)).square().mean())
        optimizer.step()
        optimizer.zero_grad()
    plain = accelerator.unwrap_model(net)
    copies = copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))
    for one in copies:
        assert differences(one.state_dict(), plain.state_dict()) == []
        one(torch.randn(4, 10)).square().mean().backward()
        assert int((one.weight.grad == 0).sum()) == 0  # no pruner follows a copy
    assert int((plain.weight == 0).sum()) == pruner.synapses.total - pruner.synapses.count == 90
