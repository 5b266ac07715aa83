"""Print how much memory the command takes to read damaged files: folder, first seed, seed after the last."""

import json
import os
import resource
import sys
from pathlib import Path

from typer.testing import CliRunner

from helpers.sources.damaged_files import damaged
from synaptic_pruning.cli import app


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run(path: Path, options: dict[str, str]) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--target", "y", "--gaps", "ignore", "--models", "rnn", "--lengths", "9000000"]
    CliRunner().invoke(app, ["compare", str(path), "--out", str(path.parent / "out"), *words])


def _grown(path: Path, options: dict[str, str]) -> int:
    """Return by how many bytes a fork of this process grew when it read a file."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = _peak()
        _run(path, options)
        os.write(writer, str(_peak() - before).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        grown = int(stream.read())
    os.waitpid(child, 0)
    return grown


def main(folder: Path, first: int, last: int) -> None:
    """Measure one file after the other, in forks that share what was imported and used once."""
    whole = folder / "whole.csv"
    whole.write_text("day,y\n2024-01-01,1\n2024-01-02,2\n")
    _run(whole, {})
    found = []
    for seed in range(first, last):
        file = damaged(seed)
        path = folder / file.name
        path.write_bytes(file.content)
        about = {"seed": seed, "damage": file.damage, "size": len(file.content)}
        options = file.options
        del file
        found.append({**about, "grown": _grown(path, options)})
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
