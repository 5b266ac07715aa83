"""Compare arms on series: run the two stages of a plan, write tables, forecasts, networks and the report."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from synaptic_pruning.study.engine import (
    About,
    Executor,
    Job,
    Record,
    failure,
    read_record,
    run,
    write_atomically,
    write_table,
)
from synaptic_pruning.study.forecasting.cells import BaselineRecord, Cell, CellRecord, data_name
from synaptic_pruning.study.forecasting.plan import (
    Case,
    Plan,
    cases,
    expand,
    expand_baselines,
    expand_chosen,
    in_regime,
    unequal,
)
from synaptic_pruning.study.forecasting.report import Dataset, declared, exported, statistics, write_report
from synaptic_pruning.study.forecasting.results import (
    Chosen,
    RunRecord,
    choose,
    gather_forecasts,
    keep_best_networks,
    only_options,
    select,
    to_baseline_table,
    to_options_table,
    to_table,
)
from synaptic_pruning.study.forecasting.run import make_cell_task
from synaptic_pruning.tasks.forecasting import DataError, Series

Compared = Sequence[tuple[Case, Series]]


def compare_series(
    series: Sequence[Series], plan: Plan, out: Path, *, executor: Executor, about: About
) -> pd.DataFrame:
    """Run a plan on data sets and leave report, tables, forecasts, networks and records in `out`.

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
        DataError: A series does not carry these windows and horizons, or an arm has fewer options or models than the
            others; raised before any training.
        KeyboardInterrupt: After the running cells were stopped; finished ones are kept.
    """
    train_plan(series, plan, out, executor=executor)
    return write_results(series, plan, out, about=about)


def train_plan(series: Sequence[Series], plan: Plan, out: Path, *, executor: Executor) -> None:
    """Run both stages of a plan, and its baselines, and leave their records in the folder `cells` of `out`.

    The arguments and what is raised are those of `compare_series`.
    """
    if reason := unequal(plan.arms, plan.models, plan.grid):
        raise DataError(f"{reason}, or leave that arm out.")
    compared = cases(plan, series)
    data = _data(plan, series)
    baselines = expand_baselines(plan, compared)
    for cell in baselines or expand_chosen(plan, compared, only_options(plan, [case for case, _ in compared])):
        make_cell_task(cell, data[cell.data])
    kept = out / "cells"
    kept.mkdir(exist_ok=True)
    first: list[Job] = [*expand(plan, compared), *baselines]
    later = plan.tunes * len(compared) * len(plan.arms) * plan.seeds
    run(first, data, kept, executor, later=later)
    run(expand_chosen(plan, compared, chosen_options(plan, compared, kept)), data, kept, executor)


def runs_of(series: Sequence[Series], plan: Plan, out: Path) -> pd.DataFrame:
    """Return the table of runs (`results.to_table`) of the records that `out` holds."""
    _, _, records = _selected(plan, cases(plan, series), out / "cells")
    return to_table(records, {}, {})


def _selected(plan: Plan, compared: Compared, kept: Path) -> tuple[list[Cell], list[CellRecord], list[RunRecord]]:
    """Return the cells of the second stage, their records, and those records as the runs of their arms."""
    chosen = chosen_options(plan, compared, kept)
    cells = expand_chosen(plan, compared, chosen)
    trained = cast(list[CellRecord], _records(cells, kept))
    return cells, trained, select(cells, trained, chosen, plan, kept)


def chosen_options(plan: Plan, compared: Compared, kept: Path) -> Chosen:
    """Return the options that the arms took, as far as the records of the first stage tell.

    Args:
        plan: The plan.
        compared: What is compared, of `plan.cases`.
        kept: Folder of the records.
    """
    if not plan.tunes:
        return only_options(plan, [case for case, _ in compared])
    cells = expand(plan, compared)
    return choose(cells, [read_record(kept, cell) for cell in cells], plan)


def write_results(series: Sequence[Series], plan: Plan, out: Path, *, about: About) -> pd.DataFrame:
    """Write the tables, the forecasts, the best networks and the report from the records that `out` holds.

    Nothing is trained.

    Returns:
        The table of runs; cells without a record count as failed.
    """
    compared, kept = cases(plan, series), out / "cells"
    data = _data(plan, series)
    tried = expand(plan, compared)
    cells, trained, records = _selected(plan, compared, kept)
    table = to_table(records, about.blocks, about.domains)
    baselines = expand_baselines(plan, compared)
    untrained = cast(list[BaselineRecord], _records(baselines, kept))
    beside = to_baseline_table(untrained, about.blocks, about.domains)
    outcomes = declared(table, plan.hypotheses, about)
    write_table(pd.concat([table, beside], ignore_index=True) if len(beside) else table, out)
    if tried:
        write_table(to_options_table(tried, cast(list[CellRecord], _records(tried, kept))), out, "options")
    _write_forecasts(gather_forecasts(records, plan, kept), out / "forecasts.npz")
    write_atomically(out / "statistics.json", json.dumps(statistics(table, about, outcomes), indent=1))
    keep_best_networks(records, kept, out / "networks")
    datasets = [
        Dataset(s.name, s.target, len(s.values), len(s.columns), s.season, s.digest, s.reading, s.times) for s in series
    ]
    write_report(
        out / "report.html",
        table,
        records,
        plan=plan,
        datasets=datasets,
        about=about,
        baselines=beside,
        outcomes=outcomes,
        exported=exported(cells, trained, data, kept),
        trainings=len({cell.hash for cell in (*tried, *cells)}),
        cells=kept,
    )
    return table


def _data(plan: Plan, series: Sequence[Series]) -> dict[str, Series]:
    """Return what the cells are trained on, by `Cell.data`."""
    return {data_name(one.name, regime): in_regime(one, regime) for one in series for regime in plan.regimes}


def _records(cells: Sequence[Job], kept: Path) -> list[Record[Any]]:
    return [read_record(kept, cell) or failure(cell, "failed: not run yet") for cell in cells]


def _write_forecasts(found: Mapping[str, "np.ndarray"], path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
