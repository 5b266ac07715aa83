"""Cells on a real Ray cluster of two nodes, one of which is killed while it works."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

import numpy as np
import pandas as pd
import ray
from ray.cluster_utils import Cluster

from helpers.planned import planned
from helpers.processes.study_runs import SPEC as EIGHT_CELLS
from helpers.processes.study_runs import wait_until
from synaptic_pruning.study.engine.local import Processes
from synaptic_pruning.study.engine.ray_cluster import RayCluster
from synaptic_pruning.study.engine.runner import run
from synaptic_pruning.study.forecasting.cells import Cell
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import read_forecasts, run_cell
from synaptic_pruning.tasks.forecasting.data.series import Series

pytestmark = [pytest.mark.hosts, pytest.mark.filterwarnings("ignore")]

TIDES = Series("tides", "y", ("y",), np.arange(90), np.sin(np.arange(90.0))[:, None], season=12)
DATA = {"tides: multivariate": TIDES}
PLAN = Plan(("rnn",), ("none", "synaptic"), lengths=(3,), horizons=(1,), seeds=4, epochs=3)
CELLS = planned(PLAN, [TIDES])
TRACES = "TEST_STUDY_RAY_TRACES"
SPEC = EIGHT_CELLS.replace("seeds = 4", "seeds = 2")


def traced(cell: Cell, series: Series, folder: Path) -> dict:
    """A real training, slow enough to be caught in flight; tells on which node it began."""
    node = ray.get_runtime_context().get_node_id()
    Path(os.environ[TRACES], f"{cell.hash}-{node}-{time.time_ns()}").touch()
    time.sleep(1)
    return run_cell(cell, series, folder)


def unlucky(cell: Cell, series: Series, folder: Path) -> dict:
    if cell.seed == 1:
        raise RuntimeError("no luck")
    if cell.seed == 2:
        os.kill(os.getpid(), 9)
    return run_cell(cell, series, folder)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head and a second node with one core each, as small as they get."""
    source = Path(__file__).parents[3] / "src"
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(source), str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    )
    monkeypatch.setenv("RAY_health_check_period_ms", "500")  # so that a dead node is noticed within seconds
    monkeypatch.setenv("RAY_health_check_timeout_ms", "500")
    (tmp_path / "traces").mkdir()
    monkeypatch.setenv(TRACES, str(tmp_path / "traces"))
    small = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def begun(folder: Path, node: str) -> set[str]:
    """The cells that have begun on a node."""
    names = [path.name.split("-") for path in (folder / "traces").iterdir()]
    return {cell for cell, where, _ in names if where == node}


def without_times(record: dict) -> dict:
    """What must not depend on where a cell ran."""
    measured = ("train_seconds", "validation_seconds", "peak_memory_mb")
    kept = {key: value for key, value in record.items() if key not in measured}
    kept["history"] = [{**epoch, "seconds": 0} for epoch in record["history"]]
    kept["answers"] = {passes: {**answer, "predict_seconds": 0} for passes, answer in record["answers"].items()}
    return kept


def test_a_node_killed_midway_takes_no_result_with_it(tmp_path, cluster):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (second,) = cluster.worker_nodes
    name, state = second.node_id, {}

    def kill() -> None:
        wait_until(lambda: len(list(there.glob("*.json"))) >= 2 and begun(tmp_path, name))
        at_the_time = len(begun(tmp_path, name))
        wait_until(lambda: len(begun(tmp_path, name)) > at_the_time)  # one has just begun there
        (raylet,) = second.all_processes["raylet"]
        raylet.process.kill()
        state["lost"] = begun(tmp_path, name) - {path.stem for path in there.glob("*.json")}

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    records = run(CELLS, DATA, there, RayCluster(cluster.address, traced))
    killer.join(timeout=1)

    assert state["lost"]  # it was at work
    assert [record["status"] for record in records] == ["ok"] * len(CELLS)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 1
    for cell in state["lost"]:
        assert len(list((tmp_path / "traces").glob(f"{cell}-*"))) >= 2  # begun again elsewhere

    local = run(CELLS, DATA, here, Processes(1, run_cell))
    assert [without_times(record) for record in records] == [without_times(record) for record in local]
    for cell in CELLS:
        name = f"{cell.hash}.safetensors"
        assert (here / name).read_bytes() == (there / name).read_bytes()
        one, other = read_forecasts(here, cell.hash), read_forecasts(there, cell.hash)
        assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one | other)


def test_what_fails_on_a_node_is_recorded_with_its_reason(tmp_path, cluster):
    cells = [cell for cell in CELLS if not cell.option.algorithm]  # every seed once
    records = run(cells, DATA, tmp_path, RayCluster(cluster.address, unlucky))
    status = {record["cell"]["seed"]: record["status"] for record in records}
    assert status[0] == status[3] == "ok"
    assert status[1] == "failed: RuntimeError: no luck"
    assert status[2].startswith("killed: WorkerCrashedError")
    assert all(json.loads((tmp_path / f"{cell.hash}.json").read_text()) for cell in cells)


def study(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "synaptic_pruning", "study", "run", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def test_the_command_gives_the_same_table_on_a_cluster(tmp_path, cluster):
    spec = tmp_path / "tiny.toml"
    spec.write_text(SPEC)
    on_ray = study(spec, "--out", tmp_path / "ray", "--backend", "ray", "--address", cluster.address)
    assert on_ray.returncode == 0, on_ray.stderr
    assert on_ray.stdout == f"Report: {tmp_path / 'ray' / 'report.html'}\n"
    local = study(spec, "--out", tmp_path / "local", "--jobs", 1)
    assert local.returncode == 0, local.stderr
    tables = [pd.read_csv(tmp_path / name / "results.csv") for name in ("ray", "local")]
    measured = ["train_seconds", "predict_seconds", "peak_memory_mb"]
    pd.testing.assert_frame_equal(*(table.drop(columns=measured) for table in tables))


@pytest.mark.parametrize(
    ("address", "fragment"),
    [
        ("auto", "no Ray cluster at 'auto' (Could not find any running Ray instance"),
        ("127.0.0.1:{closed}", "no Ray cluster answers at '127.0.0.1:{closed}' ([Errno 111] Connection refused)"),
        ("nowhere", "the Ray address 'nowhere' is not host:port"),
        ("ray://head:10001", "the Ray address 'ray://head:10001' is not host:port"),
    ],
)
def test_no_cluster_is_told_in_one_sentence(tmp_path, address, fragment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    with pytest.raises(ConnectionError) as caught:
        RayCluster(address.format(closed=closed), run_cell)
    message = str(caught.value)
    assert message.startswith(fragment.format(closed=closed))
    assert "ray start --head" in message
    assert "\n" not in message
