"""Compare arms on images: run the cells of a plan, write tables and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd

from synaptic_pruning.study.classification.arms import SPARSITY
from synaptic_pruning.study.classification.cells import ImageRecord, ImageSet
from synaptic_pruning.study.classification.plan import ImagePlan
from synaptic_pruning.study.classification.report import write_report
from synaptic_pruning.study.classification.results import to_table
from synaptic_pruning.study.engine import About, Executor, failure, run, write_table
from synaptic_pruning.tasks.classification import ClassificationTask

_UNKNOWN = "failed: “disuse” of this seed did not end well, so the sparsity to match is not known"


def compare_images(
    task: ClassificationTask,
    plan: ImagePlan,
    out: Path,
    *,
    data_dir: Path | None,
    executor: Executor,
    about: About,
) -> pd.DataFrame:
    """Run a plan and leave `report.html`, `results.*` and the records in `out`.

    Cells that `out` already holds are not run again. “disuse” runs before the arms that are brought to its sparsity.

    Args:
        task: The images, as `make_task` reads them from `data_dir`.
        plan: What to vary and what to hold fixed.
        out: Existing folder.
        data_dir: Where the cells find the images; None as in `make_task`.
        executor: Where the cells run, with `cells.run_image_cell` as its work.
        about: What the report tells of the study.

    Returns:
        The table of runs (`results.to_table`), failed ones included.

    Raises:
        KeyboardInterrupt: After the running cells were stopped; finished ones are kept.
    """
    kept = out / "cells"
    kept.mkdir(exist_ok=True)
    images = {task.name: ImageSet(task.name, data_dir, task.digest)}
    free = [plan.cell(task, model, arm, seed) for model, arm, seed in plan.runs(matched=False)]
    records = cast(list[ImageRecord], run(free, images, kept, executor))
    reached = {_key(r): r["sparsity"] for r in records if r["cell"]["arm"] == "disuse" and r["status"] == "ok"}
    matched = []
    for model, arm, seed in plan.runs(matched=True):
        if "disuse" in plan.arms and (model, seed) not in reached:
            records.append(cast(ImageRecord, failure(plan.cell(task, model, arm, seed), _UNKNOWN)))
        else:
            matched.append(plan.cell(task, model, arm, seed, reached.get((model, seed), SPARSITY)))
    if matched:
        records += cast(list[ImageRecord], run(matched, images, kept, executor))
    records = _ordered(records, plan)
    table = to_table(records)
    write_table(table, out)
    write_report(out / "report.html", table, records, plan=plan, task=task, about=about, cells=kept)
    return table


def _key(record: ImageRecord) -> tuple[str, int]:
    return record["cell"]["model"], record["cell"]["seed"]


def _ordered(records: Sequence[ImageRecord], plan: ImagePlan) -> list[ImageRecord]:
    def place(record: ImageRecord) -> tuple[int, int, int]:
        cell = record["cell"]
        return plan.models.index(cell["model"]), plan.arms.index(cell["arm"]), cell["seed"]

    return sorted(records, key=place)
