"""Command `compare`: compare synaptic pruning with dropout on series."""

import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synaptic_pruning.cli import options

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting import Series


class SeriesCommand(options.TaskCommand):
    """`compare`, with one sentence for those who want images."""

    foreign = ("--task", "--data", "--data-dir")
    advice = "for images use synaptic-pruning compare-images"


class Gaps(StrEnum):
    """What to do about missing timestamps."""

    error = "error"
    fill = "fill"
    ignore = "ignore"


class Predict(StrEnum):
    """What a network forecasts."""

    delta = "delta"
    level = "level"


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
    date_format: Annotated[
        str | None, typer.Option(help="Form of times: %d.%m.%y, or s or ms since 1970, or number.")
    ] = None,
    models: Annotated[str, typer.Option(help="Networks.")] = "rnn,lstm,patchtst",
    arms: Annotated[str, typer.Option(help="What to compare.")] = "none,dropout,mc-dropout,synaptic",
    lengths: Annotated[str, typer.Option(help="Window lengths, in rows.")] = "7,30",
    horizon: Annotated[int, typer.Option(min=1, help="Rows to forecast together.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of every chosen option.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 30,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once; all cores by default.")] = None,
    separator: Annotated[str, typer.Option(help="Character between cells.")] = ",",
    decimal: Annotated[str | None, typer.Option(help="Decimal mark; by default a point.")] = None,
    thousands: Annotated[
        str | None, typer.Option(help="Mark between thousands; by default one that cells prove.")
    ] = None,
    missing: Annotated[str, typer.Option(help="Cells that mean “no value”: -200,n/a.")] = "",
    gaps: Annotated[Gaps, typer.Option(help="When timestamps are missing: refuse, fill in, ignore.")] = Gaps.error,
    season: Annotated[int | None, typer.Option(min=1, help="Rows in a season; by default from the times.")] = None,
    predict: Annotated[Predict, typer.Option(help="The change from the last value, or the value.")] = Predict.delta,
) -> None:
    """Compare synaptic pruning with dropout on real series, and write a report.

    Stop it with Ctrl-C and run the same command again: it goes on where it was.
    """
    from synaptic_pruning.study.forecasting import ARMS, Grid, Plan
    from synaptic_pruning.tasks.forecasting import MODELS, DataError

    plan = Plan(
        models=options.names("--models", models, MODELS),
        arms=options.names("--arms", arms, ARMS),
        lengths=options.lengths(lengths),
        horizons=(horizon,),
        seeds=seeds,
        epochs=epochs,
        predict=predict.value,
        grid=Grid(rate=(1.0, 3.0, 10.0), options=3),
        baselines=("persistence", "seasonal naive", "ridge"),
    )
    options.prepare(out)
    command = [data, *options.written(target=target, time=time, models=models, arms=arms, lengths=lengths)]
    command += options.written(horizon=horizon, seeds=seeds, epochs=epochs)
    if data:
        command += options.written(date_format=date_format, separator=separator, decimal=decimal, thousands=thousands)
        command += options.written(missing=missing, gaps=gaps.value, season=season)
    command += options.written(predict=predict.value, out=out)
    try:
        if data:
            series = _read(
                data,
                target,
                time=time,
                date_format=date_format,
                separator=separator.replace("\\t", "\t"),
                decimal=decimal,
                thousands=thousands,
                missing=options.split(missing),
                gaps=gaps.value,
                season=season,
            )
            typer.echo(series[0].reading)
        else:
            series = _embedded(target, time)

        # SciPy and Matplotlib take seconds: refusals come first.
        from synaptic_pruning.study.engine import About, Processes
        from synaptic_pruning.study.forecasting import compare_series, run_job
        from synaptic_pruning.study.forecasting.report import contestants, judge
        from synaptic_pruning.study.statistics import paired

        table = compare_series(
            series,
            plan,
            out,
            executor=Processes(jobs or options.cores(), run_job),
            about=About(shlex.join(["synaptic-pruning", "compare", *(str(w) for w in command if w is not None)])),
        )
    except DataError as error:
        options.refuse(_as_options(str(error)))
    except KeyboardInterrupt:
        options.stopped(out)
    verdict = judge(paired(contestants(table))[0])
    typer.echo(f"{verdict.answer} {verdict.sparsity}".strip())
    typer.echo(f"Report: {out / 'report.html'}")
    options.tell_failures(table)


def _embedded(target: str | None, time: str | None) -> "list[Series]":
    from synaptic_pruning.tasks.forecasting import embedded

    if target is not None or time is not None:
        options.refuse("--target and --time name columns of a CSV file; give the file too, or leave them out.")
    return embedded()


def _read(data: Path, target: str | None, **how: Any) -> "list[Series]":
    from synaptic_pruning.tasks.forecasting import read_csv

    if target is None:
        options.refuse(f"--target is missing: name the column of {data} to forecast.")
    return read_csv(data, target, **how)


def _as_options(message: str) -> str:
    """Turn the arguments that an error of the readers names into the options of this command.

    Example:
        >>> _as_options("pass missing=['n/a', '?'], or gaps='fill' ...")
        "pass --missing='n/a,?', or --gaps='fill' ..."
    """
    lists = re.sub(
        r"\b(missing)=\[([^\]]*)\]", lambda m: f"{m[1]}='{m[2].replace(', ', ',').replace(chr(39), '')}'", message
    )
    names = "gaps|missing|decimal|thousands|separator|season|time|date_format"
    return re.sub(rf"\b({names})=(?=['\"\d])", lambda m: f"--{m[1].replace('_', '-')}=", lists)
