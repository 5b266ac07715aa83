"""Commands `fit` and `forecast`: from a file to a kept forecaster, and from new rows to the next ones."""

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synaptic_pruning.cli import options
from synaptic_pruning.cli import series_options as given

if TYPE_CHECKING:
    from synaptic_pruning.study.forecaster import Forecaster

_PICTURES = (".svg", ".png", ".pdf")
_SEARCH = ".synaptic-pruning-search"


def fit(
    ctx: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="CSV (also .gz) or Parquet file of one series.")],
    out: Annotated[Path, typer.Option(help="Folder for the forecaster: packed weights and a JSON file.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="The --out folder of a finished compare on DATA, in place of a new choice."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Share of values that intervals are to hold, in (0, 1).")] = 0.9,
    target: given.Target = None,
    time: given.Time = None,
    date_format: given.DateFormat = None,
    inputs: given.Inputs = None,
    known: given.Known = "",
    calendar: given.Calendar = False,
    models: given.Models = "rnn,lstm,patchtst",
    arms: given.Arms = "none,dropout,synaptic",
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
    """Choose model, window, arm and sparsity by validation, train that on all rows, and keep it in a folder.

    The choice is made as “compare” makes it. Stop it with Ctrl-C and run the same command again: it goes on where it
    was.
    """
    plan = given.plan_of(ctx)
    if source is not None:
        given.refuse_compared(ctx)
        if not (source / "results.parquet").is_file():
            options.refuse(f"--from: {source} holds no results.parquet; give the --out folder of a finished compare.")
    if not 0 < level < 1:
        options.refuse(f"--level: {level:g} must be above 0 and below 1, such as 0.9.")
    search = out / _SEARCH
    with options.prepared(search), given.refusals(out):
        series = given.read(ctx, [data])
        if len(series) > 1:
            found = ", ".join(one.name for one in series)
            options.refuse(f"{data} holds {len(series)} series ({found}); fit takes one, so give each its own file.")
        given.tell_reading(series, plan)

        from synaptic_pruning.study.engine import Processes, cores
        from synaptic_pruning.study.forecaster import Forecaster
        from synaptic_pruning.study.forecasting import run_job

        how: dict[str, Any] = {
            "known": given.known_of(ctx),
            "calendar": calendar,
            "level": level,
            "reading": given.reading_of(ctx),
        }
        if source is not None:
            fitted = Forecaster.from_comparison(series[0], source, **how)
        else:
            executor = Processes(jobs or cores(), run_job)
            fitted = Forecaster.fit(series[0], plan, search, executor=executor, **how)
        fitted.save(out)
    shutil.rmtree(search, ignore_errors=True)
    typer.echo(_summary(fitted))
    typer.echo(f"Forecaster: {out}")


def forecast(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that “fit” wrote.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="CSV or Parquet file with the latest rows.")],
    out: Annotated[
        list[Path] | None,
        typer.Option(help="File for the forecast: .csv, .parquet, or a picture (.svg, .png, .pdf); may be repeated."),
    ] = None,
) -> None:
    """Forecast the rows after the last one of DATA, with dates and intervals; without --out they are printed as CSV."""
    for path in out or []:
        if path.suffix.lower() not in (".csv", ".parquet", *_PICTURES):
            options.refuse(f"--out: {path} has no known ending; use .csv, .parquet, {', '.join(_PICTURES)}.")
        if path.is_dir() or not path.absolute().parent.is_dir():
            options.refuse(f"--out: {path} is no file in a folder that exists; choose another name.")
    from synaptic_pruning.study.forecaster import Forecaster, draw_forecast
    from synaptic_pruning.tasks.forecasting import DataError

    try:
        with warnings.catch_warnings(record=True, action="always", category=UserWarning) as told:
            kept = Forecaster.load(model)
            rows = kept.read(data)
            table = kept.forecast(rows)
    except DataError as error:
        options.refuse(given.as_options(str(error)))
    typer.echo(f"Read: {rows.reading}", err=True)
    for one in told:
        typer.echo(f"Warning: {one.message}", err=True)
    typer.echo(_covered(kept), err=True)
    for path in out or []:
        try:
            if path.suffix.lower() == ".csv":
                table.to_csv(path, index=False)
            elif path.suffix.lower() == ".parquet":
                table.to_parquet(path, index=False)
            else:
                draw_forecast(rows, table, kept.description).savefig(path)
        except OSError as error:
            options.refuse(f"--out: cannot write {path} ({error.strerror}); choose another place.")
        typer.echo(f"Forecast: {path}", err=True)
    if not out:
        typer.echo(table.to_csv(index=False).rstrip("\n"))


def _summary(fitted: "Forecaster") -> str:
    about = fitted.description
    chosen, metrics = about.chosen, about.metrics
    option = f" ({chosen.option})" if chosen.option else ""
    sparse = f", {chosen.sparsity:.0%} of its weights pruned" if chosen.sparsity > 0.005 else ""
    return (
        f"Chosen of {chosen.candidates} by validation error: {about.network.model}, window {about.network.length}, arm "
        f"“{chosen.arm}”{option}; trained on all {about.data.rows:,} rows for {chosen.epochs} epochs{sparse}. Before "
        f"that, its test error (MAE) was {metrics['mae']:.4g}; repeating the last value has "
        f"{metrics['persistence_mae']:.4g}. {_covered(fitted)}"
    )


def _covered(kept: "Forecaster") -> str:
    found = kept.description.intervals
    if all(width is None for width in found.half_widths):
        return "There are no intervals: too few rows to measure errors on."
    made = f"Intervals of {found.level:.0%} come from the errors in {found.windows} test windows"
    if found.coverage is None:
        return f"{made}; too few to tell how often they hold."
    return f"{made}; made from the first half of them, they held {found.coverage:.0%} of the second."
