"""The command line, the only place that imports typer: compare, fit, forecast, studies, images, data, export."""

from typing import Annotated

import typer

from synaptic_pruning import __version__
from synaptic_pruning.cli import compare, compare_images, datasets, export, forecast, options, series_options, study

__all__ = ["app"]

app = typer.Typer(
    cls=options.OneSentenceGroup,
    help="Networks that prune themselves while they train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich takes "[default: …]" and other words in brackets for its own and drops them
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"synaptic-pruning {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Tell the version and end.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None: ...


app.command("compare", cls=series_options.SeriesCommand)(compare.compare)
app.command("fit", cls=series_options.SeriesCommand)(forecast.fit)
app.command("forecast")(forecast.forecast)
app.command("compare-images", cls=compare_images.ImagesCommand)(compare_images.compare_images)
app.command("inspect")(export.inspect)
app.command("export")(export.export)
app.add_typer(study.app, name="study")
app.add_typer(datasets.app, name="datasets")
