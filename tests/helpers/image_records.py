"""Made-up records of trainings on images, with the networks they describe."""

from pathlib import Path

import torch

from synaptic_pruning.study.classification.arms import ARMS
from synaptic_pruning.study.classification.cells import ImageCell, ImageSet, build_network
from synaptic_pruning.study.classification.plan import ImagePlan
from synaptic_pruning.study.engine import failure, save_network
from synaptic_pruning.tasks.classification import ClassificationTask, Labelled


def a_task(name="made") -> ClassificationTask:
    part = Labelled(torch.randn(20, 1, 4, 4), torch.arange(20) % 10)
    return ClassificationTask(name, part, part, part, digest="0" * 64)


def works(cell: ImageCell, images: ImageSet | None = None) -> dict:
    """Stands in for a training; “disuse” ends at a sparsity of its seed, and fails with seed 2."""
    if cell.arm == "disuse" and cell.seed == 2:
        return failure(cell, "nan-loss: lower the learning rate")
    sparsity = 0.25 * (cell.seed + 1) if cell.arm == "disuse" else cell.sparsity
    history = [{"epoch": e, "validation_accuracy": 0.4 + 0.1 * e, "sparsity": sparsity} for e in (1, 2)]
    return failure(cell, "ok") | {
        "history": history,
        "layers": {"1.weight": [round(4800 * (1 - sparsity)), 4800]},
        "sparsity": sparsity,
        "accuracy": 0.8 - 0.1 * sparsity - 0.02 * (cell.seed + 1) * (cell.arm == "random-ramp"),
        "validation_accuracy": 0.6,
        "majority": 0.1,
        "best_epoch": 2,
        "train_seconds": 2.0 if ARMS[cell.arm].prunes else 1.0,
        "peak_memory_mb": 300.0,
    }


def records_of(plan: ImagePlan, folder: Path, task: ClassificationTask) -> list[dict]:
    """Records of `works` with the networks that they speak of."""
    records = []
    for model in plan.models:
        for arm in plan.arms:
            for seed in plan.seeds:
                cell = ImageCell(task.name, task.digest, model, arm, 0.5 * ARMS[arm].matched, seed, 2, 64, 1e-3)
                save_network(build_network(cell, task), cell, folder)
                records.append(works(cell))
                if arm == "disuse":
                    streaks = {"patience": 2, "alive": [5, 4], "removed": [0, 0, 3]}
                    records[-1]["streaks"] = streaks
    return records
