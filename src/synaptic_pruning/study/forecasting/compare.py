"""Compare arms on series: run the cells of a plan, write tables, networks and the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd

from synaptic_pruning.study.engine import (
    About,
    Executor,
    failure,
    read_record,
    run,
    write_atomically,
    write_table,
)
from synaptic_pruning.study.forecasting.cells import CellRecord
from synaptic_pruning.study.forecasting.export_benchmark import exported
from synaptic_pruning.study.forecasting.plan import Plan, expand, no_ensemble
from synaptic_pruning.study.forecasting.report import Dataset, statistics, write_report
from synaptic_pruning.study.forecasting.results import keep_best_networks, select, to_table
from synaptic_pruning.study.forecasting.run import make_cell_task
from synaptic_pruning.tasks.forecasting import DataError, Series


def compare_series(
    series: Sequence[Series], plan: Plan, out: Path, *, executor: Executor, about: About
) -> pd.DataFrame:
    """Run a plan on data sets and leave report, tables, statistics, networks and records in `out`.

    Cells that `out` already holds are not run again, so a stopped comparison continues and a larger one adds to it.

    Args:
        series: Data sets of distinct names.
        plan: What to vary and what to hold fixed.
        out: Existing folder.
        executor: Where the cells run, with `run.run_job` as its work.
        about: What the report tells of the study.

    Returns:
        The table of runs (`results.to_table`), failed ones included.

    Raises:
        DataError: A series does not carry these windows and horizon, or an ensemble cannot be put together from
            these sparsities; raised before any training.
        KeyboardInterrupt: After the running cells were stopped; finished ones are kept.
    """
    if reason := no_ensemble(plan.arms, plan.grid):
        raise DataError(f"{reason}, or leave that arm out.")
    cells = expand(plan, series)
    by_name = {one.name: one for one in series}
    for cell in cells:
        if cell.model == plan.models[0] and cell.seed == plan.seeds[0]:
            make_cell_task(cell, by_name[cell.dataset])
    kept = out / "cells"
    kept.mkdir(exist_ok=True)
    run(cells, by_name, kept, executor)
    return write_results(series, plan, out, about=about)


def write_results(series: Sequence[Series], plan: Plan, out: Path, *, about: About) -> pd.DataFrame:
    """Write the tables, the best networks and the report from the records that `out` holds; nothing is trained.

    Returns:
        The table of runs; cells without a record count as failed.
    """
    cells, kept = expand(plan, series), out / "cells"
    by_name = {one.name: one for one in series}
    read = [read_record(kept, cell) or failure(cell, "failed: not run yet") for cell in cells]
    trained = cast(list[CellRecord], read)
    records = select(cells, trained, plan, kept)
    table = to_table(records)
    write_table(table, out)
    write_atomically(out / "statistics.json", json.dumps(statistics(table, about), indent=1))
    keep_best_networks(records, kept, out / "networks")
    datasets = [Dataset(s.name, s.target, len(s.values), len(s.columns), s.season, s.digest, s.reading) for s in series]
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
