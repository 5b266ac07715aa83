"""An interpreter that has seen nothing of this one and hashes strings otherwise, started once for all that ask it."""

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

_LOOP = """
import json, sys
for line in sys.stdin:
    scope = {}
    exec(json.loads(line), scope)
    print(json.dumps(scope["answer"]), flush=True)
"""


class OtherInterpreter:
    """Runs code, one piece after the other, each in a scope of its own."""

    def __enter__(self) -> "OtherInterpreter":
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def answer(self, code: str) -> Any:
        """Return what the code leaves in the variable ``answer``, something that JSON can hold."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
