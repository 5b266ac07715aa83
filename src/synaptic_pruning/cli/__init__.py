"""The command line, the only place that imports typer: compare, compare-images, study, datasets, inspect, export."""

import typer

from synaptic_pruning.cli import compare, compare_images, datasets, export, study

__all__ = ["app"]

app = typer.Typer(
    help="Networks that prune themselves while they train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("compare", cls=compare.SeriesCommand)(compare.compare)
app.command("compare-images", cls=compare_images.ImagesCommand)(compare_images.compare_images)
app.command("inspect")(export.inspect)
app.command("export")(export.export)
app.add_typer(study.app, name="study")
app.add_typer(datasets.app, name="datasets")
