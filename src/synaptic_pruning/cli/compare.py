"""Command `compare`: compare synaptic pruning with dropout on series."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaptic_pruning.cli import options
from synaptic_pruning.cli import series_options as given

if TYPE_CHECKING:
    import pandas as pd


def compare(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the report, the tables and the networks.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            help="CSV (also .gz) or Parquet files, wide (a time column, numeric columns) or long (unique_id, ds, y), "
            "or names of “datasets list”. Without any: the twelve small series that ship with the package, which take "
            "hours without --quick.",
        ),
    ] = None,
    target: given.Target = None,
    time: given.Time = None,
    date_format: given.DateFormat = None,
    inputs: given.Inputs = None,
    known: given.Known = "",
    calendar: given.Calendar = False,
    models: given.Models = "rnn,lstm,patchtst",
    arms: given.Arms = "none,dropout,mc-dropout,synaptic",
    lengths: given.Lengths = "7,30",
    horizon: given.Horizon = 1,
    seeds: given.Seeds = 3,
    epochs: given.Epochs = 30,
    quick: given.Quick = False,
    jobs: given.Jobs = None,
    separator: given.Separator = ",",
    encoding: given.Encoding = None,
    decimal: given.Decimal = None,
    thousands: given.Thousands = None,
    missing: given.Missing = "",
    gaps: given.GapsOption = given.Gaps.error,
    season: given.Season = None,
    predict: given.PredictOption = given.Predict.delta,
) -> None:
    """Compare synaptic pruning with dropout on real series, and write a report.

    Every arm tries as many options as the others: three learning rates, each with a setting of its own. It takes
    that with the smallest validation error and trains it again on fresh seeds, which alone are tested.

    Stop it with Ctrl-C and run the same command again: it goes on where it was.
    """
    plan = given.plan_of(ctx)
    with options.prepared(out), given.refusals(out):
        series = given.read(ctx, data or [])
        given.tell_reading(series, plan)

        # SciPy and Matplotlib take seconds: refusals come first.
        from synaptic_pruning.study.engine import About, Processes, cores
        from synaptic_pruning.study.forecaster import with_inputs
        from synaptic_pruning.study.forecasting import compare_series, run_job
        from synaptic_pruning.study.forecasting.report import contestants, judge
        from synaptic_pruning.study.statistics import paired

        ahead = given.known_of(ctx)
        series = [with_inputs(one, horizon=horizon, known=ahead, calendar=calendar) for one in series]
        table = compare_series(
            series,
            plan,
            out,
            executor=Processes(jobs or cores(), run_job),
            about=About(given.command_of(ctx, data or [])),
        )
    verdict = judge(paired(contestants(table))[0])
    typer.echo(f"{verdict.answer} {verdict.sparsity}".strip())
    typer.echo(f"Report: {out / 'report.html'}")
    _tell_last_epochs(table)
    options.tell_failures(table)


def _tell_last_epochs(table: "pd.DataFrame") -> None:
    """Warn where networks might have gone on learning."""
    well = table[table["status"] == "ok"]
    late = well[well["best_epoch"] == well["most_epochs"]]
    if len(late):
        typer.echo(
            f"Warning: {len(late)} of {len(well)} runs were best in their last epoch; give more --epochs, or they are "
            "compared before they have learnt.",
            err=True,
        )
