"""The core stands on torch alone and costs next to nothing to import."""

import subprocess
import sys

_PROBE = """
import sys, time, torch
before = set(sys.modules)
start = time.process_time()
import synaptic_pruning
print(time.process_time() - start)
print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))
"""


def _probe() -> tuple[float, set[str]]:
    lines = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return float(lines[0]), set(lines[1].split())


def test_import_loads_nothing_but_torch_and_the_standard_library():
    seconds, loaded = _probe()
    assert loaded - sys.stdlib_module_names <= {"synaptic_pruning", "torch"}
    # Processor time, and the best of three where the first is not quick: CI shares its cores.
    assert seconds < 0.2 or min(_probe()[0] for _ in range(2)) < 0.2
