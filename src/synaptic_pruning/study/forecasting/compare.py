"""From series to a folder of results: run the cells, write tables, networks and the report."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from synaptic_pruning.study.engine.atomic_write import write_atomically
from synaptic_pruning.study.engine.local import Executor
from synaptic_pruning.study.engine.records import failure, read_record
from synaptic_pruning.study.engine.runner import run
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting.cells import task_of
from synaptic_pruning.study.forecasting.export_benchmark import exported
from synaptic_pruning.study.forecasting.plan import Plan, expand, no_ensemble
from synaptic_pruning.study.forecasting.report import Dataset, statistics, write_report
from synaptic_pruning.study.forecasting.results import keep_best_networks, to_table, write_table
from synaptic_pruning.study.forecasting.selection import select
from synaptic_pruning.tasks.forecasting import DataError, Series


def compare(series: Sequence[Series], plan: Plan, out: Path, *, executor: Executor, about: About) -> pd.DataFrame:
    """Run a plan on data sets and leave report, tables, statistics, networks and records in `out`.

    Cells that `out` already holds are not run again, so a stopped comparison continues and a larger one adds to it.

    Args:
        series: the data sets, with distinct names.
        plan: what to vary and what to hold fixed.
        out: existing folder.
        executor: where the cells run.
        about: what the report tells of the study.

    Returns:
        The table of runs (`results.to_table`), failed ones included.

    Raises:
        DataError: a series does not carry these windows and horizon, or an ensemble cannot be put together from
            these sparsities; raised before any training.
        KeyboardInterrupt: finished cells are kept.
    """
    if reason := no_ensemble(plan.arms, plan.grid):
        raise DataError(f"{reason}, or leave that arm out.")
    cells = expand(plan, series)
    by_name = {one.name: one for one in series}
    for cell in cells:
        if cell.model == plan.models[0] and cell.seed == plan.seeds[0]:
            task_of(cell, by_name[cell.dataset])
    kept = out / "cells"
    kept.mkdir(exist_ok=True)
    run(cells, by_name, kept, executor)
    return summarise(series, plan, out, about=about)


def summarise(series: Sequence[Series], plan: Plan, out: Path, *, about: About) -> pd.DataFrame:
    """Write the tables, the best networks and the report from the records that `out` holds; nothing is trained.

    Returns:
        The table of runs; cells without a record count as failed.
    """
    cells, kept = expand(plan, series), out / "cells"
    by_name = {one.name: one for one in series}
    trained = [read_record(kept, cell) or failure(cell, "failed: not run yet") for cell in cells]
    records = select(cells, trained, plan, kept)
    table = to_table(records)
    write_table(table, out)
    write_atomically(out / "statistics.json", json.dumps(statistics(table, about), indent=1))
    keep_best_networks(records, kept, out / "networks")
    datasets = [Dataset(s.name, s.target, len(s.values), len(s.columns), s.season, s.digest) for s in series]
    small = exported(cells, trained, by_name, kept)
    write_report(
        out / "report.html",
        table,
        records,
        plan=plan,
        datasets=datasets,
        about=about,
        exported=small,
        trainings=len(cells),
        cells=kept,
    )
    return table
