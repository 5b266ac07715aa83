"""Commands `datasets list`, `datasets info` and `datasets fetch`: show and fetch the data sets of the registry."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaptic_pruning.cli import options

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting import Entry

app = typer.Typer(help="Data sets to forecast: list them, describe one, fetch them.", no_args_is_help=True)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of local files; by default SYNAPTIC_PRUNING_DATA, else the cache.", file_okay=False),
]


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """List the data sets and say where each lies: shipped with the package, local, cached or absent."""
    from rich.console import Console
    from rich.table import Table

    from synaptic_pruning.tasks.forecasting import DATASETS

    rows = [
        (e.name, f"{e.rows:,}", e.frequency, f"{e.season:,}", _where(e, data_dir), e.licence) for e in DATASETS.values()
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("name", "rows", "frequency", "season", "where", "licence")
    for column, title in enumerate(titles):
        widest = (
            None if title == "licence" else max(len(row[column]) for row in (titles, *rows))
        )  # a licence may be cut
        table.add_column(
            title, no_wrap=True, min_width=widest, justify="right" if title in ("rows", "season") else "left"
        )
    for row in rows:
        table.add_row(*row, style="dim" if "absent" in row else "")
    Console().print(table)


@app.command("info")
def info_command(name: Annotated[str, typer.Argument(help="Data set.")], data_dir: DataDir = None) -> None:
    """Show every field of a data set."""
    from synaptic_pruning.tasks import DataError, locate
    from synaptic_pruning.tasks.forecasting import find_entry

    try:
        entry = find_entry(name)
    except DataError as error:
        options.refuse(str(error))
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if value != field.default:
            typer.echo(f"{field.name:<12}{_text(value)}")
    if entry.convert:
        typer.echo(f"{'converted':<12}from the file at url, by a function of tasks/forecasting/data/conversions.py")
    where = _where(entry, data_dir)
    typer.echo(f"{'where':<12}{where if where == 'absent' else f'{where}: {locate(entry, data_dir)}'}")


@app.command("fetch")
def fetch_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Data sets.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every data set.")] = False,
) -> None:
    """Fetch data sets into the cache and check each against its sum; files that it holds are only checked."""
    if bool(names) == all_:
        options.refuse("name the data sets to fetch, or give --all; synaptic-pruning datasets list shows them.")

    from synaptic_pruning.tasks import DataError, fetch, show_progress
    from synaptic_pruning.tasks.forecasting import DATASETS, find_entry

    try:
        entries = [find_entry(name) for name in dict.fromkeys(names or [])]
    except DataError as error:
        options.refuse(str(error))
    if all_:
        entries = list(DATASETS.values())
    failed = []
    for entry, progress in show_progress(entries):
        try:
            typer.echo(f"{entry.name}: {fetch(entry, progress=progress)}")
        except DataError as error:
            failed.append(str(error))
    for message in failed:
        typer.echo(message, err=True)
    if failed:
        raise typer.Exit(2)


def _where(entry: "Entry", data_dir: Path | None) -> str:
    from synaptic_pruning.tasks import DataError, local_folder, locate

    if entry.shipped is not None:
        return "shipped"
    try:
        locate(entry, data_dir)
    except DataError:
        return "absent"
    return "cached" if local_folder(data_dir) is None else "local"


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value))
    return str(value) or "none"
