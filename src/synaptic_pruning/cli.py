"""The command line: options in, packages called, one sentence out."""

import os
import re
import shlex
import tempfile
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from synaptic_pruning.export import commands
from synaptic_pruning.study import commands as studies
from synaptic_pruning.tasks import commands as datasets

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting.series import Series

app = typer.Typer(
    help="Networks that prune themselves while they train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.registered_commands += commands.app.registered_commands
app.add_typer(datasets.app, name="datasets")
app.add_typer(studies.app, name="study")


class Gaps(StrEnum):
    """What to do with missing timestamps."""

    error = "error"
    fill = "fill"
    ignore = "ignore"


class Predict(StrEnum):
    """What a network forecasts."""

    delta = "delta"
    level = "level"


@app.callback()
def _main() -> None:
    """Networks that prune themselves while they train."""


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="Folder for the report, the tables and the networks.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="CSV file, wide (a time column, numeric columns) or long (unique_id, ds, y). "
            "Without one: co2, sunspots and elnino from statsmodels."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to forecast.")] = None,
    time: Annotated[str | None, typer.Option(help="Time column, or two to join: Date,Time.")] = None,
    models: Annotated[str, typer.Option(help="Forecasters.")] = "rnn,lstm,patchtst",
    arms: Annotated[str, typer.Option(help="What to compare.")] = "none,dropout,mc-dropout,synaptic",
    lengths: Annotated[str, typer.Option(help="Window lengths, in rows.")] = "7,30",
    horizon: Annotated[int, typer.Option(min=1, help="Rows to forecast together.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Networks a combination, with seeds 0, 1, ...")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training windows.")] = 30,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once. [default: all cores]")] = None,
    separator: Annotated[str, typer.Option(help="Character between cells.")] = ",",
    decimal: Annotated[str, typer.Option(help="Decimal mark.")] = ".",
    missing: Annotated[str, typer.Option(help="Cells that mean “no value”: -200,n/a.")] = "",
    gaps: Annotated[Gaps, typer.Option(help="When timestamps are missing: refuse, fill in, ignore.")] = Gaps.error,
    season: Annotated[int | None, typer.Option(min=1, help="Rows in a season. [default: from the times]")] = None,
    predict: Annotated[Predict, typer.Option(help="The change from the last value, or the value.")] = Predict.delta,
) -> None:
    """Compare synaptic pruning with dropout on real series and write a report.

    Stop it with Ctrl-C and run the same command again: it goes on where it was.
    """
    from synaptic_pruning.study.arms import ARMS
    from synaptic_pruning.study.plan import Plan
    from synaptic_pruning.tasks.forecasting.models import MODELS
    from synaptic_pruning.tasks.forecasting.series import DataError

    plan = Plan(
        models=_names("--models", models, MODELS),
        arms=_names("--arms", arms, ARMS),
        lengths=_lengths(lengths),
        horizon=horizon,
        seeds=tuple(range(seeds)),
        epochs=epochs,
        predict=predict.value,
    )
    _prepare(out)
    command = [data, *_options(target=target, time=time), "--models", models, "--arms", arms, "--lengths", lengths]
    command += ["--horizon", horizon, "--seeds", seeds, "--epochs", epochs]
    if data:
        command += _options(separator=separator, decimal=decimal, missing=missing, gaps=gaps.value, season=season)
    command += ["--predict", predict.value, "--out", out]
    try:
        series = _read(data, target, time, separator, decimal, missing, gaps, season)

        from synaptic_pruning.study import compare as study  # SciPy and Matplotlib take seconds: refusals come first
        from synaptic_pruning.study.about import About
        from synaptic_pruning.study.executors import Processes
        from synaptic_pruning.study.statistics import paired
        from synaptic_pruning.study.verdict import contestants, judge

        table = study.compare(
            series,
            plan,
            out,
            executor=Processes(jobs or _cores()),
            about=About(shlex.join(["synaptic-pruning", "compare", *(str(w) for w in command if w is not None)])),
        )
    except DataError as error:
        _refuse(_as_options(str(error)))
    except KeyboardInterrupt:
        typer.echo(f"Stopped; finished runs are kept in {out}, and the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    verdict = judge(paired(contestants(table))[0])
    typer.echo(f"{verdict.answer} {verdict.sparsity}".strip())
    typer.echo(f"Report: {out / 'report.html'}")
    studies.tell_failures(table)


def _read(
    data: Path | None,
    target: str | None,
    time: str | None,
    separator: str,
    decimal: str,
    missing: str,
    gaps: Gaps,
    season: int | None,
) -> "list[Series]":
    from synaptic_pruning.tasks.forecasting.datasets import embedded
    from synaptic_pruning.tasks.forecasting.readers import read_csv

    if data is None:
        if target is not None or time is not None:
            _refuse("--target and --time name columns of a CSV file; give the file too, or leave them out.")
        return embedded()
    if target is None:
        _refuse(f"--target is missing: name the column of {data} to forecast.")
    return read_csv(
        data,
        target,
        time=time,
        separator=separator.replace("\\t", "\t"),
        decimal=decimal,
        missing=_split(missing),
        gaps=gaps.value,
        season=season,
    )


def _names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(_split(text)))
    for name in names:
        if name not in known:
            _refuse(f"{option}: {name!r} is unknown; choose from {', '.join(known)}.")
    if not names:
        _refuse(f"{option} is empty; choose from {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def _lengths(text: str) -> tuple[int, ...]:
    words = _split(text)
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            _refuse(f"--lengths: {word!r} is not a window length; give whole numbers from 1 on, such as 7,30.")
    if not words:
        _refuse("--lengths is empty; give whole numbers from 1 on, such as 7,30.")
    return tuple(sorted({int(word) for word in words}))


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _options(**options: str | int | None) -> list[str | int]:
    pairs = ((f"--{name}", value) for name, value in options.items() if value not in (None, ""))
    return [word for pair in pairs for word in pair if word is not None]


def _cores() -> int:
    """How many cores this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_options(message: str) -> str:
    """Turn the arguments that an error of the readers names into the options of this command.

    Example:
        >>> _as_options("pass missing=['n/a', '?'], or gaps='fill' ...")
        "pass --missing='n/a,?', or --gaps='fill' ..."
    """
    lists = re.sub(
        r"\b(missing)=\[([^\]]*)\]", lambda m: f"{m[1]}='{m[2].replace(', ', ',').replace(chr(39), '')}'", message
    )
    return re.sub(r"\b(gaps|missing|decimal|separator|season|time)=(?=['\d])", r"--\1=", lists)


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        _refuse(f"--out: cannot write to {out} ({error.strerror}); choose a folder that you may write to.")


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
