"""Helpers that the commands share: read lists, refuse in one sentence, check the output folder, report failures."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    import pandas as pd


_UsageError: Any = typer.BadParameter.__base__
"""What the parser of the command line raises; releases of typer keep it in different places."""


class OneSentenceGroup(TyperGroup):
    """The commands, of which none answers to a wrong command line with more than one sentence."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the words before the command."""
        with _one_sentence():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Parse the words after the command, and run it."""
        with _one_sentence():
            return super().invoke(ctx)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no mistake: it shows the help
            raise
        where = error.ctx.command_path if error.ctx else "synaptic-pruning"
        message = " ".join(error.format_message().split()).rstrip(".")
        refuse(f"{message}{_given(error, message)} (see {where} --help).")


def _given(error: Exception, message: str) -> str:
    """Say what was given, where the parser does not: newer releases of typer leave out a number they refuse."""
    told = getattr(error.__context__, "errors", None)
    given = repr(told()[0]["input"]) if callable(told) else ""
    return "" if given in message else f"; got {given}"


class TaskCommand(TyperCommand):
    """A command for one task, which refuses the options of the other task's command in one sentence.

    Attributes:
        foreign: Options of the other task's command.
        advice: Half a sentence that names the other command.
    """

    foreign: ClassVar[tuple[str, ...]]
    advice: ClassVar[str]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line after looking for foreign options."""
        for word in args:
            option = word.partition("=")[0]
            if option in self.foreign:
                refuse(f"{option} is no option of {self.name}; {self.advice}.")
        return super().parse_args(ctx, args)


def names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    """Read known names from a list, without doubles, in the order of ``known``; refuse others.

    Example:
        >>> names("--models", "lstm, rnn, lstm", ["rnn", "lstm", "patchtst"])
        ('rnn', 'lstm')
    """
    asked = tuple(dict.fromkeys(split(text)))
    for name in asked:
        if name not in known:
            refuse(f"{option}: {name!r} is unknown; choose from {', '.join(known)}.")
    if not asked:
        refuse(f"{option} is empty; choose from {', '.join(known)}.")
    return tuple(name for name in known if name in asked)


def lengths(text: str) -> tuple[int, ...]:
    """Read window lengths, in rows, the shortest first.

    Example:
        >>> lengths("30,7")
        (7, 30)
    """
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


@contextmanager
def prepared(out: Path) -> Iterator[None]:
    """Make the output folder, or refuse; a folder that was made and stays empty goes again."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    prepare(out)
    try:
        yield
    finally:
        with suppress(OSError):  # the first that is not empty
            for path in made:
                path.rmdir()


def prepare(out: Path) -> None:
    """Make the output folder, or refuse."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        refuse(f"--out: cannot write to {out} ({error.strerror}); choose a folder that you may write to.")


def refuse(message: str) -> NoReturn:
    """Print one sentence with reason and fix, and end with exit code 2; errors of the library lack the full stop."""
    typer.echo(message if message.endswith((".", "?")) else f"{message}.", err=True)
    raise typer.Exit(2)


def stopped(out: Path) -> NoReturn:
    """End after Ctrl-C."""
    typer.echo(f"Stopped; finished cells are kept in {out}, and the same command goes on from there.", err=True)
    raise typer.Exit(130) from None


def tell_failures(table: "pd.DataFrame") -> None:
    """Say how many runs of a table failed and why the first did; end with exit code 2 when none ended well.

    Args:
        table: Table of runs with a column ``status``, "ok" for a run that ended well.
    """
    failed = table.loc[table["status"] != "ok", "status"]
    if len(failed):
        typer.echo(f"{len(failed)} of {len(table)} runs failed; the first: {failed.iloc[0]}", err=True)
    if len(failed) == len(table):
        raise typer.Exit(2)
