"""A worker of a Ray Train run is killed by SIGKILL; Ray starts the group again and nothing is lost."""

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.train")

import ray
import ray.train
import ray.train.torch
import torch
from torch import nn

import synaptic_pruning as sp
from helpers.processes.killed_runs import die, differences, learn, some_step

STEPS, SAVE_EVERY = 24, 4
pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]


def _worker(config: dict[str, Any]) -> None:
    """Train one worker's copy, go on from the last checkpoint, and die once, between two of them."""
    folder, rank = Path(config["folder"]), ray.train.get_context().get_world_rank()
    torch.manual_seed(0)
    model = ray.train.torch.prepare_model(nn.Sequential(nn.Linear(9, 21), nn.Tanh(), nn.Linear(21, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruner = sp.SynapticPruner(model, optimizer, sp.ToSparsity(sp.cubic(0.8, begin=0.1, end=0.8)), total_steps=STEPS)
    parts = {"model": model, "optimizer": optimizer, "pruner": pruner}
    latest = folder / "latest.pt"
    if latest.exists():
        saved = torch.load(latest, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    started_at = pruner.steps
    for step in range(started_at + 1, STEPS + 1):
        learn(model, optimizer, step, rank)
        if step % SAVE_EVERY == 0:
            if rank == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "unfinished")
                (folder / "unfinished").replace(latest)
            torch.distributed.barrier()
        if rank == 1 and step == config["deadly"] and not started_at:
            die()
    if rank == 0:
        (folder / "from").write_text(str(started_at))


def _end(folder: Path, deadly: int = 0) -> dict[str, Any]:
    folder.mkdir()
    ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"folder": str(folder), "deadly": deadly},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(
            storage_path=str(folder / "ray"), failure_config=ray.train.FailureConfig(max_failures=1)
        ),
    ).fit()
    return torch.load(folder / "latest.pt") | {"from": int((folder / "from").read_text())}


def test_a_killed_worker_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deadly = some_step(1)
    assert deadly % SAVE_EVERY, "dies between two checkpoints"
    here = Path(__file__).parent  # the workers import this file and the helpers
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        whole, killed = _end(tmp_path / "whole"), _end(tmp_path / "killed", deadly)
    finally:
        ray.shutdown()
    assert (whole.pop("from"), killed.pop("from")) == (0, deadly - deadly % SAVE_EVERY)
    assert whole["pruner"]["steps"] == STEPS
    assert sum(int((w == 0).sum()) for name, w in whole["model"].items() if "weight" in name) == round(0.8 * 210)
    assert differences(whole, killed) == []
