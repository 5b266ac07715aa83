"""Run trainings that are killed by SIGKILL, and compare what is left."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def some_step(seed: int) -> int:
    """Return the step to die in: any one of a training of 24, the same for the same seed."""
    return random.Random(seed).randint(9, 22)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, rank: int) -> None:
    """Take one step of a training in several processes, every rank with its own data."""
    x = torch.randn(8, 9, generator=torch.Generator().manual_seed(10 * step + rank))
    loss = (model(x) - x[:, :3].sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def run_until_killed(train: Callable[..., object], *arguments: Any) -> None:
    """Run it in a process of its own, which has to die of SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def kill_after(seconds: float, train: Callable[..., object], *arguments: Any) -> bool:
    """Run it in a process of its own, kill that at the given time, and return whether it was still running."""
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def differences(first: object, second: object, path: str = "") -> list[str]:
    """Name everything in which two nested states differ, tensors bit for bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{path}: {sorted(map(str, first.keys() ^ second.keys()))}"]
        return [found for key in first for found in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        return [
            found
            for i, pair in enumerate(zip(first, second, strict=True))
            for found in differences(*pair, f"{path}/{i}")
        ]
    return [] if first == second else [path]
