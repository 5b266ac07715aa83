"""The command line: options in, packages called, one sentence out."""

import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaptic_pruning.cli import datasets, export, options
from synaptic_pruning.cli import study as studies

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting.data.series import Series

app = typer.Typer(
    help="Networks that prune themselves while they train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.registered_commands += export.app.registered_commands
app.add_typer(datasets.app, name="datasets")
app.add_typer(studies.app, name="study")


class Task(StrEnum):
    """What the networks learn."""

    forecasting = "forecasting"
    classification = "classification"


_DEFAULTS = {
    Task.forecasting: ("rnn,lstm,patchtst", "none,dropout,mc-dropout,synaptic"),
    Task.classification: ("mlp", "none,dropout,magnitude,disuse,random-ramp"),
}
_ONLY = {
    Task.forecasting: (
        *("data", "target", "time", "lengths", "horizon"),
        *("separator", "decimal", "missing", "gaps", "season", "predict"),
    ),
    Task.classification: ("images", "data_dir"),
}


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
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the report, the tables and the networks.")],
    task: Annotated[Task, typer.Option(help="What the networks learn.")] = Task.forecasting,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Forecasting: CSV file, wide (a time column, numeric columns) or long (unique_id, ds, y). "
            "Without one: co2, sunspots and elnino from statsmodels."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to forecast.")] = None,
    time: Annotated[str | None, typer.Option(help="Time column, or two to join: Date,Time.")] = None,
    images: Annotated[
        str, typer.Option("--data", help="Classification: digits, mnist, fashion-mnist or cifar10.")
    ] = "digits",
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Classification: folder of local files. [default: SYNAPTIC_PRUNING_DATA, else fetched]"),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Networks. [default: rnn,lstm,patchtst; for images mlp, there are cnn and vgg too]"),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="What to compare. [default: none,dropout,mc-dropout,synaptic; for images "
            "none,dropout,magnitude,disuse,random-ramp, there are synaptic, set, rigl and more too]"
        ),
    ] = None,
    lengths: Annotated[str, typer.Option(help="Window lengths, in rows.")] = "7,30",
    horizon: Annotated[int, typer.Option(min=1, help="Rows to forecast together.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Networks a combination, with seeds 0, 1, ...")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 30,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once. [default: all cores]")] = None,
    separator: Annotated[str, typer.Option(help="Character between cells.")] = ",",
    decimal: Annotated[str, typer.Option(help="Decimal mark.")] = ".",
    missing: Annotated[str, typer.Option(help="Cells that mean “no value”: -200,n/a.")] = "",
    gaps: Annotated[Gaps, typer.Option(help="When timestamps are missing: refuse, fill in, ignore.")] = Gaps.error,
    season: Annotated[int | None, typer.Option(min=1, help="Rows in a season. [default: from the times]")] = None,
    predict: Annotated[Predict, typer.Option(help="The change from the last value, or the value.")] = Predict.delta,
) -> None:
    """Compare synaptic pruning with dropout on real series, or on images, and write a report.

    Stop it with Ctrl-C and run the same command again: it goes on where it was.
    """
    _refuse_the_other_tasks(context, task)
    models = _DEFAULTS[task][0] if models is None else models
    arms = _DEFAULTS[task][1] if arms is None else arms
    if task is Task.classification:
        from synaptic_pruning.cli.compare_images import compare_images

        compare_images(
            out=out,
            data=images,
            data_dir=data_dir,
            models=models,
            arms=arms,
            seeds=seeds,
            epochs=epochs,
            jobs=jobs or options.cores(),
        )
        return
    from synaptic_pruning.study.forecasting import ARMS, Plan
    from synaptic_pruning.tasks.forecasting.data.series import DataError
    from synaptic_pruning.tasks.forecasting.models import MODELS

    plan = Plan(
        models=options.names("--models", models, MODELS),
        arms=options.names("--arms", arms, ARMS),
        lengths=options.lengths(lengths),
        horizon=horizon,
        seeds=tuple(range(seeds)),
        epochs=epochs,
        predict=predict.value,
    )
    options.prepare(out)
    command = [data, *options.written(target=target, time=time, models=models, arms=arms, lengths=lengths)]
    command += options.written(horizon=horizon, seeds=seeds, epochs=epochs)
    if data:
        command += options.written(separator=separator, decimal=decimal, missing=missing)
        command += options.written(gaps=gaps.value, season=season)
    command += options.written(predict=predict.value, out=out)
    try:
        series = _read(data, target, time, separator, decimal, missing, gaps, season)

        # SciPy and Matplotlib take seconds: refusals come first.
        from synaptic_pruning.study.engine import About, Processes
        from synaptic_pruning.study.forecasting import compare_series, run_job
        from synaptic_pruning.study.forecasting.report.verdict import contestants, judge
        from synaptic_pruning.study.statistics.rank_tests import paired

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
    studies.tell_failures(table)


def _refuse_the_other_tasks(context: typer.Context, task: Task) -> None:
    (other,) = set(Task) - {task}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _ONLY[other] and source is not None and source.name == "COMMANDLINE":
            if parameter.name == "data":
                options.refuse("A CSV file is for forecasting; name the images of --task classification with --data.")
            options.refuse(f"{parameter.opts[0]} is for --task {other.value}; leave it out, or give that task.")


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
    from synaptic_pruning.tasks.forecasting.data.builtin import embedded
    from synaptic_pruning.tasks.forecasting.data.csv_reader import read_csv

    if data is None:
        if target is not None or time is not None:
            options.refuse("--target and --time name columns of a CSV file; give the file too, or leave them out.")
        return embedded()
    if target is None:
        options.refuse(f"--target is missing: name the column of {data} to forecast.")
    return read_csv(
        data,
        target,
        time=time,
        separator=separator.replace("\\t", "\t"),
        decimal=decimal,
        missing=options.split(missing),
        gaps=gaps.value,
        season=season,
    )


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
