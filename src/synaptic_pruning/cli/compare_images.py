"""Command `compare-images`: compare pruning rules with dropout on images."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from synaptic_pruning.cli import options


class ImagesCommand(options.TaskCommand):
    """`compare-images`, with one sentence for those who want series."""

    foreign = (
        *("--task", "--target", "--time", "--date-format", "--lengths", "--horizon"),
        *("--separator", "--decimal", "--thousands", "--missing", "--gaps", "--season", "--predict"),
    )
    advice = "for series use synaptic-pruning compare"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, of which none may be a file."""
        ctx.allow_extra_args = True
        words = super().parse_args(ctx, args)
        if words:
            options.refuse(f"{words[0]}: a CSV file is for synaptic-pruning compare; name the images with --data.")
        return words


def compare_images(
    out: Annotated[Path, typer.Option(help="Folder for the report, the tables and the networks.")],
    data: Annotated[str, typer.Option(help="Images: digits, mnist, fashion-mnist or cifar10.")] = "digits",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of local files; by default SYNAPTIC_PRUNING_DATA, else fetched.")
    ] = None,
    models: Annotated[str, typer.Option(help="Networks: mlp, cnn, vgg.")] = "mlp",
    arms: Annotated[
        str, typer.Option(help="What to compare; there are synaptic, set, rigl and more too.")
    ] = "none,dropout,magnitude,disuse,random-ramp",
    seeds: Annotated[int, typer.Option(min=1, help="Networks per combination, with seeds 0, 1, ...")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 30,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once; all cores by default.")] = None,
) -> None:
    """Compare synaptic pruning and other rules with dropout on images, and write a report.

    Stop it with Ctrl-C and run the same command again: it goes on where it was.
    """
    from synaptic_pruning.study.classification import ARMS
    from synaptic_pruning.tasks.classification import DATASETS, MODELS, DataError, make_task

    if data not in DATASETS:
        options.refuse(f"--data: {data!r} is unknown; choose from {', '.join(DATASETS)}.")
    if data == "digits" and data_dir is not None:
        options.refuse(f"--data-dir {data_dir} holds no digits, which come with scikit-learn; leave it out.")
    chosen = options.names("--models", models, MODELS), options.names("--arms", arms, ARMS)
    with options.prepared(out):
        try:
            task = make_task(data, data_dir)

            # SciPy and Matplotlib take seconds: refusals come first.
            from synaptic_pruning.study import classification as study
            from synaptic_pruning.study.engine import About, Processes, cores

            command = options.written(
                data=data, data_dir=data_dir, models=models, arms=arms, seeds=seeds, epochs=epochs, out=out
            )
            table = study.compare_images(
                task,
                study.ImagePlan(*chosen, tuple(range(seeds)), epochs),
                out,
                data_dir=data_dir,
                executor=Processes(jobs or cores(), study.run_image_cell),
                about=About(shlex.join(["synaptic-pruning", "compare-images", *command])),
            )
        except DataError as error:
            options.refuse(str(error))
        except KeyboardInterrupt:
            options.stopped(out)
    for sentence in study.judge(study.summary_rows(study.paired(table))).sentences:
        typer.echo(sentence)
    typer.echo(f"Report: {out / 'report.html'}")
    options.tell_failures(table)
