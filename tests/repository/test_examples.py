"""Every example runs as it stands, in a process of its own, and ends sparse."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SLOW = {"ddp_torchrun", "fsdp_torchrun"}  # they start four processes
HOSTS = {"neuralforecast_models": "neuralforecast", "ray_train": "ray"}


def _cases() -> list[object]:
    marks = {**dict.fromkeys(SLOW, pytest.mark.slow), **dict.fromkeys(HOSTS, pytest.mark.hosts)}
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.mark.parametrize("name", _cases())
def test_example(name: str, tmp_path: Path):
    if name in HOSTS:
        pytest.importorskip(HOSTS[name])
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if "torchrun" in name else []
    ran = subprocess.run(
        [sys.executable, *torchrun, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout + ran.stderr  # Ray passes on what its workers print
    assert re.search(r"total .* (79\.9|80\.0|80\.1) %", said), said
