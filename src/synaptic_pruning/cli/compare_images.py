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
    from synaptic_pruning.study.classification.arms import ARMS
    from synaptic_pruning.tasks.classification import DATASETS, MODELS, DataError, make_task

    if data not in DATASETS:
        options.refuse(f"--data: {data!r} is unknown; choose from {', '.join(DATASETS)}.")
    if data == "digits" and data_dir is not None:
        options.refuse(f"--data-dir {data_dir} holds no digits, which come with scikit-learn; leave it out.")
    chosen = options.names("--models", models, MODELS), options.names("--arms", arms, ARMS)
    options.prepare(out)
    try:
        task = make_task(data, data_dir)

        from synaptic_pruning.study.classification import compare as study
        from synaptic_pruning.study.classification.cells import run_image_cell
        from synaptic_pruning.study.classification.results import paired, summarise
        from synaptic_pruning.study.classification.verdict import judge
        from synaptic_pruning.study.engine.local import Processes
        from synaptic_pruning.study.engine.study_info import (
            About,  # SciPy and Matplotlib take seconds: refusals come first
        )

        command = ["synaptic-pruning", "compare", "--task", "classification"]
        command += options.written(
            data=data, data_dir=data_dir, models=models, arms=arms, seeds=seeds, epochs=epochs, out=out
        )
        table = study.compare(
            task,
            study.ImagePlan(*chosen, tuple(range(seeds)), epochs),
            out,
            data_dir=data_dir,
            executor=Processes(jobs, run_image_cell),
            about=About(shlex.join(command)),
        )
    except DataError as error:
        options.refuse(str(error))
    except KeyboardInterrupt:
        options.stopped(out)
    for sentence in judge(summarise(paired(table))).sentences:
        typer.echo(sentence)
    typer.echo(f"Report: {out / 'report.html'}")
    tell_failures(table)
