"""One of several processes is killed by SIGKILL, the same command goes on, and nothing is lost."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.processes.killed_runs import differences, some_step

SCRIPT = Path(__file__).parents[1] / "helpers" / "processes" / "torchrun_training.py"


def _torchrun(folder: Path, kind: str, deadly: int = 0) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *torchrun, str(SCRIPT), str(folder), kind, str(deadly)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def _end(folder: Path, kind: str) -> dict[str, Any]:
    ran = _torchrun(folder, kind)
    assert ran.returncode == 0, ran.stderr
    return torch.load(folder / "end.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("ddp", 1), ("fsdp", 5)])
def test_a_killed_rank_costs_nothing(kind: str, seed: int, tmp_path: Path):
    deadly = some_step(seed)
    assert deadly % 4, "dies between two checkpoints"
    whole = _end(tmp_path / "whole", kind)
    lost = _torchrun(tmp_path / "killed", kind, deadly)
    assert lost.returncode != 0
    assert "exitcode: -9" in lost.stderr
    assert not (tmp_path / "killed" / "end.pt").exists()
    killed = _end(tmp_path / "killed", kind)
    assert (whole.pop("from"), killed.pop("from")) == (0, deadly - deadly % 4)
    assert whole["alive"] == sum(int(mask.sum()) for mask in whole["masks"].values()) == round(0.2 * 210)
    assert differences(whole, killed) == []
