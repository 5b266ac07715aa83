"""Run cells on a Ray cluster: no shared folder needed, and a lost node takes no result with it."""

import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synaptic_pruning.study.engine.atomic_write import write_atomically
from synaptic_pruning.study.engine.local import Work, attempt
from synaptic_pruning.study.engine.records import Job, Outcome, job_failure, write_record

_QUEUED = 2
"""Cells handed to Ray for every core it has, so that no core waits for the next one."""
_FIX = "start one with ray start --head, join this machine with ray start --address=..., and give that address."


class RayCluster:
    """Every cell as a Ray task in a process of its own, on one core of any node; results come back to this one.

    A task whose node or process is lost is started again by Ray, up to three times.

    Args:
        address: Address of the cluster's head, such as "10.0.0.1:6379", which this machine has joined by `ray start`;
            "auto" finds the cluster that it belongs to.
        work: Importable function that a task calls for a cell; it returns the record.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: No cluster answers at the address.
    """

    def __init__(self, address: str, work: Work) -> None:
        try:
            import ray
        except ImportError:
            raise ImportError("the Ray backend needs Ray; install synaptic-pruning with its extra [ray]") from None
        self.work, self._ray = work, ray
        if not ray.is_initialized():
            _check(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise ConnectionError(f"no Ray cluster at {address!r} ({reason}); {_FIX}") from None
        self._task = ray.remote(num_cpus=1, max_calls=1, max_retries=3)(_remote)
        self._data: dict[str, Any] = {}

    def room(self, running: int) -> bool:
        """See `runner.Executor`."""
        return running < max(1, _QUEUED * int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self, cell: Job, data: Any, folder: Path) -> Any:
        """See `runner.Executor`."""
        if data.digest not in self._data:
            self._data[data.digest] = self._ray.put(data)
        return self._task.remote(self.work, cell, self._data[data.digest])

    def wait(self, running: Mapping[Any, Job], folder: Path) -> list[Any]:
        """See `runner.Executor`."""
        ended, _ = self._ray.wait(list(running), num_returns=1)
        for reference in ended:
            job = running[reference]
            try:
                outcome, files = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                outcome = job_failure(job, f"killed: {type(error).__name__}: {str(error).splitlines()[0]}")
                files = {}
            for name, content in files.items():
                write_atomically(folder / name, content)
            write_record(folder, job, outcome)
        return list(ended)

    def stop(self, running: Collection[Any]) -> None:
        """See `runner.Executor`."""
        for reference in running:
            self._ray.cancel(reference, force=True)


def _check(address: str) -> None:
    """Refuse what cannot be an address, and one where nobody answers: Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConnectionError(f"the Ray address {address!r} is not host:port; {_FIX}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address!r} ({error}); {_FIX}") from None


def _remote(work: Work, cell: Job, data: Any) -> tuple[Outcome, dict[str, bytes]]:
    with TemporaryDirectory() as scratch:
        outcome = attempt(work, cell, data, Path(scratch))
        return outcome, {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
