"""Every example runs as it stands, in a process of its own, and ends sparse."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes.forked import forked_script

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
HOSTS = {"neuralforecast_models": "neuralforecast", "ray_train": "ray"}
TOGETHER = {"ddp_torchrun", "fsdp_torchrun"}  # they start four processes


def _cases() -> list[object]:
    return [pytest.param(name, marks=pytest.mark.hosts if name in HOSTS else pytest.mark.slow) for name in NAMES]


def _check(ran: subprocess.CompletedProcess[str]) -> None:
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout + ran.stderr  # Ray passes on what its workers print
    assert re.search(r"total .* (79\.9|80\.0|80\.1) %", said), said


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*HOSTS, *TOGETHER}])
def test_example(name: str, tmp_path: Path):
    _check(forked_script(EXAMPLES / f"{name}.py", tmp_path))


@pytest.mark.parametrize("name", _cases())
def test_example_in_an_interpreter_of_its_own(name: str, tmp_path: Path):
    if name in HOSTS:
        pytest.importorskip(HOSTS[name])
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if name in TOGETHER else []
    script = [sys.executable, *torchrun, str(EXAMPLES / f"{name}.py")]
    _check(subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, timeout=300))
