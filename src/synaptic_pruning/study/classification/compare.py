"""From a set of images to a folder of results: run the cells, write tables and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synaptic_pruning.study.classification.arms import ARMS, SPARSITY
from synaptic_pruning.study.classification.cells import ImageCell, ImageSet
from synaptic_pruning.study.classification.report import write_report
from synaptic_pruning.study.classification.results import to_table
from synaptic_pruning.study.engine.local import Executor
from synaptic_pruning.study.engine.records import Record, failure
from synaptic_pruning.study.engine.runner import run
from synaptic_pruning.study.engine.study_info import About
from synaptic_pruning.study.forecasting.results import write_table
from synaptic_pruning.tasks.classification import ClassificationTask

_UNKNOWN = "failed: “disuse” of this seed did not end well, so the sparsity to match is not known"


@dataclass(frozen=True)
class ImagePlan:
    """What a comparison varies and what it holds fixed.

    Attributes:
        models: names of `tasks.classification.MODELS`.
        arms: names of `ARMS`.
        seeds: one network each; arms of one seed share initial weights and data order.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: of Adam, at the start; it falls to zero on a cosine.
    """

    models: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3


def compare(
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
        task: the images, as `make_task` reads them from `data_dir`.
        plan: what to vary and what to hold fixed.
        out: existing folder.
        data_dir: where the cells find the images; None as in `make_task`.
        executor: where the cells run, with `cells.run_image_cell` as their work.
        about: what the report tells of the study.

    Returns:
        The table of runs (`results.to_table`), failed ones included.

    Raises:
        KeyboardInterrupt: finished cells are kept.
    """
    kept = out / "cells"
    kept.mkdir(exist_ok=True)
    images = {task.name: ImageSet(task.name, data_dir, task.digest)}
    free = [_cell(task, plan, model, arm, seed) for model, arm, seed in _runs(plan, matched=False)]
    records = run(free, images, kept, executor)
    reached = {_key(r): r["sparsity"] for r in records if r["cell"]["arm"] == "disuse" and r["status"] == "ok"}
    matched = []
    for model, arm, seed in _runs(plan, matched=True):
        if "disuse" in plan.arms and (model, seed) not in reached:
            records.append(failure(_cell(task, plan, model, arm, seed), _UNKNOWN))
        else:
            matched.append(_cell(task, plan, model, arm, seed, reached.get((model, seed), SPARSITY)))
    if matched:
        records += run(matched, images, kept, executor)
    records = _ordered(records, plan)
    table = to_table(records)
    write_table(table, out)
    write_report(out / "report.html", table, records, plan=plan, task=task, about=about, cells=kept)
    return table


def _runs(plan: ImagePlan, matched: bool) -> list[tuple[str, str, int]]:
    arms = [arm for arm in plan.arms if ARMS[arm].matched == matched]
    return [(model, arm, seed) for model in plan.models for arm in arms for seed in plan.seeds]


def _cell(
    task: ClassificationTask, plan: ImagePlan, model: str, arm: str, seed: int, sparsity: float = 0.0
) -> ImageCell:
    return ImageCell(
        task.name, task.digest, model, arm, sparsity, seed, plan.epochs, plan.batch_size, plan.learning_rate
    )


def _key(record: Record) -> tuple[str, int]:
    return record["cell"]["model"], record["cell"]["seed"]


def _ordered(records: Sequence[Record], plan: ImagePlan) -> list[Record]:
    def place(record: Record) -> tuple[int, int, int]:
        cell = record["cell"]
        return plan.models.index(cell["model"]), plan.arms.index(cell["arm"]), cell["seed"]

    return sorted(records, key=place)
