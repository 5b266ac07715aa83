"""Start the ranks of a distributed test as processes that talk over gloo."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

# By name: what every rank calls with its number, how many there are and a folder of its own; then more arguments.
Cases = Mapping[str, tuple[Callable[..., None], *tuple[Any, ...]]]


@contextmanager
def group(rank: int, world: int, folder: str) -> Iterator[None]:
    meeting = f"file://{folder}/meet{world}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    yield
    dist.barrier()
    dist.destroy_process_group()


def _every_case(rank: int, world: int, folder: str, cases: Cases) -> None:
    for case, (function, *arguments) in cases.items():
        Path(folder, case).mkdir(exist_ok=True)
        function(rank, world, f"{folder}/{case}", *arguments)


def spawn(world: int, folder: Path, cases: Cases) -> Path:
    """Do all cases in one start of the processes; return the folder.

    The processes are forks: each new interpreter would import PyTorch and the test's file for seconds.
    """
    start = partial(mp.start_processes, _every_case, (world, str(folder), cases), world, start_method="fork")
    try:
        start()
    except mp.ProcessExitedException:
        # Now and then gloo aborts a process while it takes a group down ("terminate called without an active
        # exception"); no assertion of ours ends a process that way, so it may be tried once more.
        for meeting in folder.glob(f"*/meet{world}"):
            meeting.unlink()
        start()
    return folder
