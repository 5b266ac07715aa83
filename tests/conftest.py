import gc
import threading
from collections import defaultdict

import pytest
import torch

from helpers import combinations
from helpers.processes.other_interpreter import OtherInterpreter
from helpers.sources.http_server import Server

# Small networks want no more; and a process forked from one that has threads of OpenMP may wait for them for ever.
torch.set_num_threads(1)
# Helpers hold no tests; pytest would import each of them a second time to look for doctests.
collect_ignore = ["helpers"]


def pytest_configure(config):
    """Leave out combinations that the marks of this run rule out."""
    combinations.SLOW_TOO = "not slow" not in config.option.markexpr


def pytest_collection_finish():
    """Keep the garbage collector from all that was imported: it would look through a million objects at each turn."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def undraw(monkeypatch):
    """A function that leaves pictures out of reports, which take most of the time, by the name of what draws them."""

    def leave_out(*names):
        for name in names:
            monkeypatch.setattr(f"synaptic_pruning.study.forecasting.report.page.{name}", lambda *_: defaultdict(list))

    return leave_out


@pytest.fixture
def undrawn(undraw):
    """Reports without pictures, for tests of tables and sentences."""
    undraw("draw_panels", "draw_regime")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of downloads, no local folder, and no proxy before a server on this machine."""
    from synaptic_pruning.tasks import download

    folder = tmp_path / "cache"
    monkeypatch.setattr(download, "cache_folder", lambda: folder)
    monkeypatch.delenv("SYNAPTIC_PRUNING_DATA", raising=False)
    for proxy in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(proxy, "127.0.0.1")
    return folder


@pytest.fixture
def server():
    """A server that answers with what is put into it; see `helpers.sources.http_server`."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture(scope="session")
def other_interpreter():
    """An interpreter beside this one that runs code; see `helpers.processes.other_interpreter`."""
    with OtherInterpreter() as interpreter:
        yield interpreter
