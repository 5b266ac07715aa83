"""Ranking in real processes, talking over gloo: what they mark together is what one would."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from helpers.processes.rank_processes import group, spawn
from synaptic_pruning.core import Shard as Layout
from synaptic_pruning.core.topk import kth_smallest, smallest_k


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what they found in every case."""
    return spawn(2, tmp_path_factory.mktemp("two"), CASES[2])


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of four."""
    return spawn(4, tmp_path_factory.mktemp("four"), CASES[4])


def _tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    ties = torch.randint(-2, 3, (3, 8), generator=generator).float()
    return [torch.randn(5, 7, generator=generator), ties, torch.randn(4, 3, generator=generator).half()]


# Sizes 5, 7 and 3 leave uneven and, on four ranks, empty shards.
RANKS = (0, 1, 9, 20, 29, 38, 45, 56, 57, 66, 71)
LAYOUTS = {"rows": Shard(0), "columns": Shard(1), "replicas": Replicate()}


def _ranked(rank: int, world: int, folder: str, layouts: list[str]) -> None:
    with group(rank, world, folder):
        mesh = init_device_mesh("cpu", (world,))
        parts = [distribute_tensor(t, mesh, [LAYOUTS[name]]) for t, name in zip(_tensors(), layouts, strict=True)]
        answers = []
        for k in RANKS:
            marks = smallest_k(parts, k, most=[20, 24, 12] if k < 57 else None)
            shaped = [mark.view_as(part.to_local()) for mark, part in zip(marks, parts, strict=True)]
            full = [Layout.of(part).wrap(mark).full_tensor() for mark, part in zip(shaped, parts, strict=True)]
            answers.append((full, kth_smallest(parts, k) if k else None))
        torch.save(answers, f"{folder}/{rank}.pt")


def _check_ranks(folder: Path, world: int) -> None:
    for rank in range(world):
        for k, (marks, value) in zip(RANKS, torch.load(folder / f"{rank}.pt"), strict=True):
            expected = smallest_k(_tensors(), k, most=[20, 24, 12] if k < 57 else None)
            assert all(torch.equal(a.flatten(), b) for a, b in zip(marks, expected, strict=True)), k
            assert value is None or value == kth_smallest(_tensors(), k)


def test_shards_on_two_ranks_are_ranked_as_one(two: Path):
    _check_ranks(two / "ranks", 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ranks by rows", "ranks by columns"])
def test_shards_on_four_ranks_are_ranked_as_one(four: Path, case: str):
    _check_ranks(four / case, 4)


def _ranked_flat(rank: int, world: int, folder: str) -> None:
    with group(rank, world, folder):
        mesh = init_device_mesh("cpu", (world,))
        parts = [distribute_tensor(tensor.flatten(), mesh, [Shard(0)]) for tensor in _tensors()]  # uneven: 35 is odd
        answers = [
            (
                smallest_k(parts, k, most=[20, 24, 12] if k < 57 else None),
                kth_smallest(parts, k) if k else None,
            )
            for k in range(72)
        ]
        torch.save(answers, f"{folder}/{rank}.pt")


def test_flat_shards_are_ranked_as_one_whatever_k(two: Path):
    answers = [torch.load(two / "flat" / f"{rank}.pt") for rank in range(2)]
    for k, (first, second) in enumerate(zip(*answers, strict=True)):
        expected = smallest_k(_tensors(), k, most=[20, 24, 12] if k < 57 else None)
        assert all(torch.equal(torch.cat(parts), b) for *parts, b in zip(first[0], second[0], expected, strict=True)), k
        assert k == 0 or first[1] == second[1] == kth_smallest(_tensors(), k)


def _not_a_number(rank: int, world: int, folder: str) -> None:
    with group(rank, world, folder):
        tensor = torch.zeros(4)
        tensor[3] = float("nan")  # on the last rank only
        part = distribute_tensor(tensor, init_device_mesh("cpu", (world,)), [Shard(0)])
        with pytest.raises(ValueError, match="holds NaN") as caught:
            smallest_k([part], 2)
        Path(folder, str(rank)).write_text(str(caught.value))


def test_nan_on_one_rank_stops_every_rank(two: Path):
    assert (two / "not a number/0").read_text() == (two / "not a number/1").read_text()


# What each number of processes does.
CASES = {
    2: {
        "ranks": (_ranked, ["rows", "columns", "replicas"]),
        "flat": (_ranked_flat,),
        "not a number": (_not_a_number,),
    },
    4: {
        "ranks by rows": (_ranked, ["rows", "columns", "rows"]),
        "ranks by columns": (_ranked, ["columns", "rows", "columns"]),
    },
}
