"""Real processes, talking over gloo."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import synaptic_pruning as sp
from synaptic_pruning.threshold import kth_smallest, lowest


def _join(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)


def _tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ties = torch.randint(-2, 3, (24,), generator=generator).float()
    return [torch.randn(36, generator=generator), ties, torch.randn(12, generator=generator).half()]


def _shards(rank: int, world: int, folder: str) -> None:
    _join(rank, world, folder)
    mine = [tensor.chunk(world)[rank] for tensor in _tensors()]
    answers = []
    for k in range(73):
        most = [20, 24, 12] if k < 57 else None
        answers.append(lowest(mine, k, most=most, group=dist.group.WORLD))
        if k:
            answers[-1].append(torch.tensor(kth_smallest(mine, k, group=dist.group.WORLD), dtype=torch.float64))
    torch.save(answers, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_shards_on_several_ranks_are_ranked_as_one(tmp_path: Path, world: int):
    mp.spawn(_shards, (world, str(tmp_path)), world)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for k in range(73):
        whole = lowest(_tensors(), k, most=[20, 24, 12] if k < 57 else None)
        for layer in range(3):
            assert torch.equal(torch.cat([part[k][layer] for part in parts]), whole[layer])
        if k:
            assert all(part[k][3].item() == kth_smallest(_tensors(), k) for part in parts)


def _ddp(rank: int, world: int, folder: str, score: str) -> None:
    _join(rank, world, folder)
    torch.manual_seed(rank)  # DDP broadcasts rank 0's weights
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rule = sp.ToSparsity(sp.cubic(0.8, end=0.8), score=score)
    pruner = sp.SynapticPruner(model, optimizer, rule, total_steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()  # every rank its own data
        optimizer.step()
    torch.save({**pruner.masks(), "net": net.state_dict()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("score", ["magnitude", "gradient"])
def test_two_processes_under_ddp_end_with_the_same_masks(tmp_path: Path, score: str):
    mp.spawn(_ddp, (2, str(tmp_path), score), 2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in ("0.weight", "2.weight"):
        assert torch.equal(first[name], second[name])
        assert torch.equal(first["net"][name], second["net"][name])
    assert sum(int((~first[name]).sum()) for name in ("0.weight", "2.weight")) == round(0.8 * 84)
