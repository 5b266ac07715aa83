"""Commands `study run`, `study status` and `study report`: from a spec file to a report."""

import shlex
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaptic_pruning.cli import options

if TYPE_CHECKING:
    from synaptic_pruning.study.engine import About, Job
    from synaptic_pruning.study.forecasting import Spec
    from synaptic_pruning.tasks.forecasting import Series

app = typer.Typer(no_args_is_help=True, help="Experiments from a spec file to a report.")
_SPEC = "spec.toml"


class Backend(StrEnum):
    """Where the cells run."""

    local = "local"
    ray = "ray"


SpecFile = Annotated[str, typer.Argument(metavar="SPEC", help="Spec file, or the name of one that ships: smoke, ...")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder of a study.")]
Data = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="Folder of local data files; by default the cache.")
]


@app.command("run")
def run_command(
    spec: SpecFile,
    out: Annotated[Path, typer.Option(help="Folder for the records, the tables and the report.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once; all cores by default.")] = None,
    backend: Annotated[Backend, typer.Option(help="This machine, or a Ray cluster.")] = Backend.local,
    address: Annotated[str, typer.Option(help="Address of the Ray cluster.")] = "auto",
    data_dir: Data = None,
) -> None:
    """Train every cell of SPEC that the folder does not hold yet, then write the tables and the report.

    Stop it with Ctrl-C and run the same command again: it goes on where it was. Several may run on one folder.
    """
    from synaptic_pruning.study.engine import Executor, Processes, cores, write_atomically
    from synaptic_pruning.study.forecasting import presets, read_spec, run_job
    from synaptic_pruning.tasks import DataError

    try:
        read = read_spec(spec)
        series = read.series(data_dir)
        with options.prepared(out):
            executor: Executor
            if backend is Backend.ray:
                from synaptic_pruning.study.engine import RayCluster

                executor = RayCluster(address, run_job)
            else:
                executor = Processes(jobs or cores(), run_job)
            path = Path(spec) if Path(spec).is_file() else presets()[spec]
            write_atomically(out / _SPEC, path.read_bytes())
            from synaptic_pruning.study.forecasting import compare_series

            about = _about(read, path, _command(spec, out))
            table = compare_series(series, read.plan(), out, executor=executor, about=about)
    except (DataError, OSError, ImportError) as error:
        options.refuse(str(error))
    except KeyboardInterrupt:
        options.stopped(out)
    typer.echo(f"Report: {out / 'report.html'}")
    options.tell_failures(table)


@app.command("status")
def status_command(folder: Folder, data_dir: Data = None) -> None:
    """Say how many cells of the study in DIR are done, running, failed and left."""
    from synaptic_pruning.study.engine import in_flight, is_final, read_record
    from synaptic_pruning.study.forecasting import cases, chosen_options, expand, expand_baselines, expand_chosen

    spec, series = _stored(folder, data_dir)
    plan = spec.plan()
    compared = cases(plan, series)
    chosen = chosen_options(plan, compared, folder / "cells")
    cells: list[Job] = [
        *expand(plan, compared),
        *expand_baselines(plan, compared),
        *expand_chosen(plan, compared, chosen),
    ]
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for cell in cells:
        record = read_record(folder / "cells", cell)
        if record is not None and is_final(record):
            counts["done" if record["status"] == "ok" else "failed"] += 1
        else:
            counts["running" if in_flight(folder / "cells", cell) else "failed" if record else "left"] += 1
        if record is not None and record["status"] != "ok":
            reasons[record["status"]] += 1
    done = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "running", "failed", "left"))
    open_choices = len(plan.arms) * len(compared) - len(chosen)
    later = f"; {open_choices} of {len(plan.arms) * len(compared)} choices are open" if open_choices else ""
    typer.echo(f"{spec.title}: {sum(counts.values())} cells, {done}{later}.")
    for reason, count in reasons.most_common():
        typer.echo(f"{count} × {reason}")


@app.command("report")
def report_command(folder: Folder, data_dir: Data = None) -> None:
    """Write the tables and the report of the study in DIR from the cells that it holds."""
    from synaptic_pruning.study.forecasting import write_results

    spec, series = _stored(folder, data_dir)
    about = _about(spec, folder / _SPEC, _command(str(folder / _SPEC), folder))
    write_results(series, spec.plan(), folder, about=about)
    typer.echo(f"Report: {folder / 'report.html'}")


def _stored(folder: Path, data_dir: Path | None) -> "tuple[Spec, list[Series]]":
    from synaptic_pruning.study.forecasting import read_spec
    from synaptic_pruning.tasks import DataError

    if not (folder / _SPEC).is_file():
        options.refuse(f"{folder} holds no study; give the --out folder of a study.")
    try:
        spec = read_spec(folder / _SPEC)
        return spec, spec.series(data_dir)
    except DataError as error:
        options.refuse(str(error))


def _about(spec: "Spec", path: Path, command: str) -> "About":
    from synaptic_pruning.study.engine import About

    return About(command, spec.title, spec.blocks(), spec.domain_of(), spec.development, path.read_text("utf-8"))


def _command(spec: str, out: Path) -> str:
    return shlex.join(["synaptic-pruning", "study", "run", spec, "--out", str(out)])
