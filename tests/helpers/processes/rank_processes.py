"""Start the ranks of a distributed test as processes that talk over gloo."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

# By name: what every rank calls with its number, how many there are and a folder of its own; then more arguments.
Cases = Mapping[str, tuple[Callable[..., None], *tuple[Any, ...]]]


@contextmanager
def group(rank: int, world: int, folder: str) -> Iterator[None]:
    """Let the ranks talk inside the block; they meet in the first one, and the group stays."""
    if not dist.is_initialized():
        meeting = f"file://{folder}/meet{world}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    yield
    dist.barrier()


def _every_case(rank: int, world: int, folder: str, cases: Cases) -> None:
    for case, (function, *arguments) in cases.items():
        Path(folder, case).mkdir(exist_ok=True)
        function(rank, world, f"{folder}/{case}", *arguments)
    os._exit(0)  # now and then gloo aborts when it takes a group down


def spawn(world: int, folder: Path, cases: Cases) -> Path:
    """Do all cases in one start of the processes; return the folder.

    The processes are forks: each new interpreter would import PyTorch and the test's file for seconds. So this process
    must never be in a group itself: its forks would wait for ever for threads that they lack.
    """
    assert not dist.is_initialized()
    mp.start_processes(_every_case, (world, str(folder), cases), world, start_method="fork")
    return folder
