"""What the commands share: reading lists of names, refusing in one sentence, checking the output folder."""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

import typer


def names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    """Read known names from ``text``, without doubles, in the order of ``known``; refuse others."""
    asked = tuple(dict.fromkeys(split(text)))
    for name in asked:
        if name not in known:
            refuse(f"{option}: {name!r} is unknown; choose from {', '.join(known)}.")
    if not asked:
        refuse(f"{option} is empty; choose from {', '.join(known)}.")
    return tuple(name for name in known if name in asked)


def lengths(text: str) -> tuple[int, ...]:
    """Read window lengths, the shortest first."""
    words = split(text)
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            refuse(f"--lengths: {word!r} is not a window length; give whole numbers from 1 on, such as 7,30.")
    if not words:
        refuse("--lengths is empty; give whole numbers from 1 on, such as 7,30.")
    return tuple(sorted({int(word) for word in words}))


def split(text: str) -> list[str]:
    """Cut a list at its commas.

    Example:
        >>> split("rnn, lstm,")
        ['rnn', 'lstm']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def written(**options: object) -> list[str]:
    """Write options as they are typed, leaving out those that are not given.

    Example:
        >>> written(target="y", time=None, data_dir="images")
        ['--target', 'y', '--data-dir', 'images']
    """
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in options.items() if value not in (None, ""))
    return [str(word) for pair in pairs for word in pair]


def cores() -> int:
    """How many cores this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(out: Path) -> None:
    """Make the output folder, or refuse."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        refuse(f"--out: cannot write to {out} ({error.strerror}); choose a folder that you may write to.")


def stopped(out: Path) -> NoReturn:
    """End after Ctrl-C."""
    typer.echo(f"Stopped; finished runs are kept in {out}, and the same command goes on from there.", err=True)
    raise typer.Exit(130) from None


def refuse(message: str) -> NoReturn:
    """Say why, and end with exit code 2."""
    typer.echo(message, err=True)
    raise typer.Exit(2)
