"""Options of the commands that read series: how data are read, what networks see, what is compared."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synaptic_pruning.cli import options

if TYPE_CHECKING:
    from synaptic_pruning.study.forecasting import Plan
    from synaptic_pruning.tasks.forecasting import Series


class Gaps(StrEnum):
    """What to do about missing timestamps."""

    error = "error"
    fill = "fill"
    ignore = "ignore"


class Predict(StrEnum):
    """What a network forecasts."""

    delta = "delta"
    level = "level"


QUICK = {"models": "rnn", "lengths": "7", "seeds": 1, "epochs": 10}
"""Defaults under `--quick`."""
_FEW = 20
"""Test windows below which errors are chance."""
RATES = (1.0, 3.0, 10.0)
"""Factors on the learning rate, one for each option of an arm."""
_READING = ("time", "date_format", "separator", "encoding", "decimal", "thousands", "missing", "gaps", "season")

Target = Annotated[str | None, typer.Option(help="Column to forecast; y of a long file by default.")]
Time = Annotated[str | None, typer.Option(help="Time column, or two to join: Date,Time.")]
DateFormat = Annotated[
    str | None, typer.Option(help="Form of times: %d.%m.%y, “day first”, s or ms since 1970, or number.")
]
Inputs = Annotated[
    str | None,
    typer.Option(help="Columns beside the target that networks see; all by default, '' for the target alone."),
]
Known = Annotated[str, typer.Option(help="Columns among them whose values are known for the rows to forecast.")]
Calendar = Annotated[bool, typer.Option("--calendar", help="Networks see the place in the day, week and year too.")]
Models = Annotated[
    str,
    typer.Option(help="Networks: rnn, lstm, patchtst, mlp. All read every input; PatchTST mixes them in each patch."),
]
Arms = Annotated[
    str, typer.Option(help=f"What to compare. Each arm tries {len(RATES)} options; see docs/study.md for all arms.")
]
Lengths = Annotated[str, typer.Option(help="Window lengths, in rows.")]
Horizon = Annotated[int, typer.Option(min=1, help="Rows to forecast together.")]
Seeds = Annotated[int, typer.Option(min=1, help="Networks of every chosen option.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training data.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes at once; all cores by default.")]
Separator = Annotated[str, typer.Option(help="Character between cells.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of the text: cp1250, shift_jis; by default found out.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark; by default a point.")]
Thousands = Annotated[str | None, typer.Option(help="Mark between thousands; by default one that cells prove.")]
Missing = Annotated[str, typer.Option(help="Cells that mean “no value”: -200,n/a.")]
GapsOption = Annotated[Gaps, typer.Option("--gaps", help="When timestamps are missing: refuse, fill in, ignore.")]
Season = Annotated[int | None, typer.Option(min=1, help="Rows in a season; by default from the times.")]
PredictOption = Annotated[
    Predict, typer.Option("--predict", help="Forecast the change from the last value, or the value.")
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="A first look: " + ", ".join(f"--{name} {value}" for name, value in QUICK.items())),
]


class SeriesCommand(options.TaskCommand):
    """A command on series, with one sentence for those who want images, and other defaults under `--quick`."""

    foreign = ("--task", "--data", "--data-dir")
    advice = "for images use synaptic-pruning compare-images"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line; what is typed wins over `--quick`."""
        if "--quick" in args:
            ctx.default_map = {**(ctx.default_map or {}), **QUICK}
        return super().parse_args(ctx, args)


_COMPARED = ("models", "arms", "lengths", "horizon", "seeds", "epochs", "quick", "predict")


def refuse_compared(ctx: typer.Context) -> None:
    """Refuse the options of a comparison beside one that has been run."""
    for name in _COMPARED:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            options.refuse(f"--{name} is settled by the comparison that --from names; leave it out.")


def plan_of(ctx: typer.Context) -> "Plan":
    """Return the plan that the options ask for, or refuse."""
    from synaptic_pruning.study.forecasting import ARMS, Grid, Plan
    from synaptic_pruning.tasks.forecasting import MODELS

    given = ctx.params
    return Plan(
        models=options.names("--models", given["models"], MODELS),
        arms=options.names("--arms", given["arms"], ARMS),
        lengths=options.lengths(given["lengths"]),
        horizons=(given["horizon"],),
        seeds=given["seeds"],
        epochs=given["epochs"],
        predict=given["predict"].value,
        grid=Grid(rate=RATES, options=len(RATES)),
        baselines=("persistence", "seasonal naive", "ridge"),
    )


def reading_of(ctx: typer.Context) -> dict[str, Any]:
    """Return the arguments of `read_csv` that the options ask for."""
    how = {name: ctx.params[name] for name in _READING}
    return how | {
        "separator": how["separator"].replace("\\t", "\t"),
        "missing": options.split(how["missing"]),
        "gaps": how["gaps"].value,
    }


def inputs_of(ctx: typer.Context) -> list[str] | None:
    """Return the columns that networks are to see, None for all."""
    inputs = ctx.params["inputs"]
    return None if inputs is None else options.split(inputs)


def known_of(ctx: typer.Context) -> list[str]:
    """Return the columns that are known ahead."""
    return options.split(ctx.params["known"])


def read(ctx: typer.Context, data: list[str]) -> "list[Series]":
    """Read files and data sets of the registry, each with every series that it holds; refuse in one sentence.

    Raises:
        DataError: Something cannot be read.
    """
    from synaptic_pruning.tasks.forecasting import DATASETS, SHIPPED, DataError, find_entry, load, read_csv

    target, files = ctx.params["target"], [name for name in data if Path(name).exists() or name not in DATASETS]
    if not files:
        for name in ("target", "time", "inputs"):
            if ctx.params[name] is not None:
                options.refuse(f"--{name} names columns of a CSV or Parquet file; give the file too, or leave it out.")
    found: list[Series] = []
    for name in data or SHIPPED:
        if name not in files:
            found.append(load(name, inputs="all"))
            continue
        if not Path(name).exists() and not Path(name).suffix:
            find_entry(name)
        found += read_csv(name, target, columns=inputs_of(ctx), **reading_of(ctx))
    names = [series.name for series in found]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{names.count(name)} data sets are called {name!r}; rename a file or an id.")
    return found


def tell_reading(series: "list[Series]", plan: "Plan") -> None:
    """Print how each file was read, and where its rows are cut."""
    from synaptic_pruning.tasks.forecasting import DataError, make_task

    of_file: dict[str, list[Series]] = {}
    for one in series:
        inputs = f"; inputs {', '.join(one.columns[1:])}" if one.columns[1:] else ""
        line = one.reading or f"{one.name}: {len(one.values):,} rows; target {one.target!r}{inputs}."
        of_file.setdefault(line, []).append(one)
    for line, parts in of_file.items():
        try:
            horizon = max(int(rows) for rows in plan.horizons)
            tasks = [make_task(one, length=max(plan.lengths), horizon=horizon) for one in parts]
        except DataError:  # told before the training
            typer.echo(f"Read: {line}")
            continue
        ends = {
            tuple(_day(task.series.times[row - 1]) for row in (*task.cuts, len(task.series.times))) for task in tasks
        }
        (train, validation, test) = min(ends)
        split = f"trained until {train}, validated until {validation}, tested until {test}"
        if len(ends) > 1:
            split = "trained on the first 70 % of each series, validated on the next 10 %, tested on the rest"
        typer.echo(f"Read: {line.rstrip('.')}; {split}.")
        for task in tasks:
            if len(task.test) < _FEW:
                typer.echo(
                    f"Warning: the test part of {task.series.name} has {len(task.test)} windows, so that errors there "
                    "are chance for the most part; give more rows.",
                    err=True,
                )


def _day(time: Any) -> str:
    """Write a time, without its hour at midnight.

    Example:
        >>> import numpy as np
        >>> _day(np.datetime64("2024-05-01", "ns")), _day(np.int64(1999))
        ('2024-05-01', '1999')
    """
    return str(time).partition(".")[0].replace("T", " ").removesuffix(" 00:00:00")


def command_of(ctx: typer.Context, data: list[str]) -> str:
    """Return the command line that gives the same again; without data it has no options of reading."""
    unread = () if data else (*_READING, "target", "inputs")
    left_out = {"data", "jobs", "quick", *unread}
    words: list[str] = []
    for one in ctx.command.params:
        value = ctx.params.get(str(one.name))
        if one.name in left_out or (value in (None, "") and value == one.default) or value is False:
            continue
        words += [one.opts[0]] if value is True else [one.opts[0], str(value)]
    return shlex.join(["synaptic-pruning", str(ctx.info_name), *data, *words])


@contextmanager
def refusals(out: Path) -> Iterator[None]:
    """Turn errors of data into one sentence, and Ctrl-C into what is kept."""
    from synaptic_pruning.tasks.forecasting import DataError

    try:
        yield
    except DataError as error:
        options.refuse(as_options(str(error)))
    except KeyboardInterrupt:
        options.stopped(out)


def as_options(message: str) -> str:
    """Turn the arguments that an error of the readers names into options of the command line.

    Example:
        >>> as_options("pass missing=['n/a', '?'], or gaps='fill' ...")
        "pass --missing='n/a,?', or --gaps='fill' ..."
        >>> as_options("target=None names no column")
        '--target is missing and names no column'
    """
    message = message.replace("target=None names", "--target is missing and names")
    lists = re.sub(
        r"\b(missing)=\[([^\]]*)\]", lambda m: f"{m[1]}='{m[2].replace(', ', ',').replace(chr(39), '')}'", message
    )
    names = "gaps|missing|decimal|thousands|separator|encoding|season|time|date_format|known|level"
    return re.sub(rf"\b({names})=(?=['\"\d])", lambda m: f"--{m[1].replace('_', '-')}=", lists)
