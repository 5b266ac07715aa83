"""Commands `datasets list`, `datasets info` and `datasets fetch`: a few lines each over the registry."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from synaptic_pruning.tasks.forecasting.data.registry import Entry

app = typer.Typer(help="Data sets to forecast: what there is, where it lies, fetching it.", no_args_is_help=True)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of local files. [default: SYNAPTIC_PRUNING_DATA, else the cache]", file_okay=False),
]


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """List the data sets and say where each lies: local, cached or absent."""
    from rich.console import Console
    from rich.table import Table

    from synaptic_pruning.tasks.forecasting.data.registry import DATASETS

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
    """Show all that is known of a data set."""
    from synaptic_pruning.tasks.download import locate
    from synaptic_pruning.tasks.forecasting.data.registry import find
    from synaptic_pruning.tasks.forecasting.data.series import DataError

    try:
        entry = find(name)
    except DataError as error:
        _refuse(str(error))
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if value != field.default:
            typer.echo(f"{field.name:<12}{_text(value)}")
    if entry.derive:
        typer.echo(f"{'derived':<12}from the file at url, by a function of tasks/forecasting/originals.py")
    where = _where(entry, data_dir)
    typer.echo(f"{'where':<12}{where if where == 'absent' else f'{where}: {locate(entry, data_dir)}'}")


@app.command("fetch")
def fetch_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Data sets.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every data set.")] = False,
) -> None:
    """Fetch data sets into the cache, each checked against its sum; files that are there are only checked."""
    from synaptic_pruning.tasks.download import fetch
    from synaptic_pruning.tasks.forecasting.data.registry import DATASETS, find
    from synaptic_pruning.tasks.forecasting.data.series import DataError
    from synaptic_pruning.tasks.progress import shown

    if bool(names) == all_:
        _refuse("name the data sets to fetch, or give --all; synaptic-pruning datasets list shows them.")
    try:
        entries = [find(name) for name in dict.fromkeys(names or [])]
    except DataError as error:
        _refuse(str(error))
    if all_:
        entries = list(DATASETS.values())
    failed = []
    for entry, progress in shown(entries):
        try:
            typer.echo(f"{entry.name}: {fetch(entry, progress=progress)}")
        except DataError as error:
            failed.append(str(error))
    for message in failed:
        typer.echo(message, err=True)
    if failed:
        raise typer.Exit(2)


def _where(entry: "Entry", data_dir: Path | None) -> str:
    from synaptic_pruning.tasks.download import local, locate
    from synaptic_pruning.tasks.forecasting.data.series import DataError

    try:
        locate(entry, data_dir)
    except DataError:
        return "absent"
    return "cached" if local(data_dir) is None else "local"


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value))
    return str(value) or "none"


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
