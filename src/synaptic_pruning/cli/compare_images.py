"""What `compare --task classification` does."""

import shlex
from pathlib import Path

import typer

from synaptic_pruning.cli import options
from synaptic_pruning.cli.study import tell_failures


def compare_images(
    *,
    out: Path,
    data: str,
    data_dir: Path | None,
    models: str,
    arms: str,
    seeds: int,
    epochs: int,
    jobs: int,
) -> None:
    """Read the options, read (a first time: fetch) the images, run the comparison, say the verdict."""
    from synaptic_pruning.study.classification import ARMS
    from synaptic_pruning.tasks.classification import DATASETS, MODELS, DataError, make_task

    if data not in DATASETS:
        options.refuse(f"--data: {data!r} is unknown; choose from {', '.join(DATASETS)}.")
    if data == "digits" and data_dir is not None:
        options.refuse(f"--data-dir {data_dir} holds no digits, which come with scikit-learn; leave it out.")
    chosen = options.names("--models", models, MODELS), options.names("--arms", arms, ARMS)
    options.prepare(out)
    try:
        task = make_task(data, data_dir)

        # SciPy and Matplotlib take seconds: refusals come first.
        from synaptic_pruning.study import classification as study
        from synaptic_pruning.study.engine import About, Processes

        command = ["synaptic-pruning", "compare", "--task", "classification"]
        command += options.written(
            data=data, data_dir=data_dir, models=models, arms=arms, seeds=seeds, epochs=epochs, out=out
        )
        table = study.compare_images(
            task,
            study.ImagePlan(*chosen, tuple(range(seeds)), epochs),
            out,
            data_dir=data_dir,
            executor=Processes(jobs, study.run_image_cell),
            about=About(shlex.join(command)),
        )
    except DataError as error:
        options.refuse(str(error))
    except KeyboardInterrupt:
        options.stopped(out)
    for sentence in study.judge(study.summary_rows(study.paired(table))).sentences:
        typer.echo(sentence)
    typer.echo(f"Report: {out / 'report.html'}")
    tell_failures(table)
