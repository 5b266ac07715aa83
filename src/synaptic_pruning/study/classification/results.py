"""Turn records of trainings on images into the tidy table, and the table into means and paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from scipy import stats

from synaptic_pruning.study.classification.cells import ImageRecord
from synaptic_pruning.tasks.classification import epochs_to

REFERENCES = ("none", "dropout")
"""The arms that the others are measured against."""
_KINDS = {
    "dataset": "object",
    "model": "object",
    "arm": "object",
    "seed": "Int64",
    "accuracy": "float64",
    "validation_accuracy": "float64",
    "sparsity": "float64",
    "prunable": "Int64",
    "alive": "Int64",
    "best_epoch": "Int64",
    "epochs_to_dense": "Int64",
    "train_seconds": "float64",
    "peak_memory_mb": "float64",
    "majority": "float64",
    "status": "object",
    "config_hash": "object",
    "data_hash": "object",
    "versions": "object",
}


@dataclass(frozen=True)
class Difference:
    """A mean over seeds, in percentage points, with the half-width of its 95 % t interval; None with one seed."""

    mean: float
    half: float | None

    @classmethod
    def of(cls, points: Sequence[float]) -> "Difference":
        """Summarise the differences of the seeds.

        Example:
            >>> found = Difference.of([1.0, 2.0, 3.0])
            >>> found.mean, round(found.half, 3)
            (2.0, 2.484)
        """
        n, mean = len(points), float(np.mean(points))
        if n < 2:
            return cls(mean, None)
        return cls(mean, float(stats.t.ppf(0.975, n - 1) * np.std(points, ddof=1) / math.sqrt(n)))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.half is not None and abs(self.mean) > self.half


@dataclass(frozen=True)
class Row:
    """What the seeds of one model and arm give together.

    Attributes:
        accuracy: Mean on the test images, in [0, 1].
        spread: Its standard deviation; None with one seed.
        alive: Mean number of connections that are alive, of `prunable`.
        against: Differences from `REFERENCES`, paired by seed.
        speed: Mean first epoch whose validation accuracy reaches the dense network's last one, over the seeds that
            did; None where none did, or where there is no dense network.
        reached: Number of those seeds.
    """

    model: str
    arm: str
    seeds: int
    accuracy: float
    spread: float | None
    alive: float
    prunable: int
    against: Mapping[str, Difference]
    speed: float | None
    reached: int
    best_epoch: float
    train_seconds: float
    peak_memory_mb: float

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that are pruned, in [0, 1]."""
        return 1 - self.alive / self.prunable


def to_table(records: Sequence[ImageRecord]) -> pd.DataFrame:
    """Turn records into one row a run, failed ones with their reason.

    `epochs_to_dense` is the first epoch whose validation accuracy is at least the one that the dense network of the
    same seed has at its end.
    """
    goals = {
        (r["cell"]["model"], r["cell"]["seed"]): r["history"][-1]["validation_accuracy"]
        for r in records
        if r["cell"]["arm"] == "none" and r["status"] == "ok"
    }
    table = pd.DataFrame([_row(record, goals) for record in records], columns=list(_KINDS))
    return table.astype(_KINDS)


def _row(record: ImageRecord, goals: Mapping[tuple[str, int], float]) -> dict[str, Any]:
    cell = record["cell"]
    entries: dict[str, Any] = {**cell, **record}
    layers = record.get("layers", {}).values()
    goal = goals.get((cell["model"], cell["seed"]))
    return {
        **{name: value for name, value in entries.items() if name in _KINDS},
        "sparsity": record.get("sparsity"),
        "alive": sum(alive for alive, _ in layers) if layers else None,
        "prunable": sum(size for _, size in layers) if layers else None,
        "epochs_to_dense": epochs_to(record["history"], goal) if goal is not None and "history" in record else None,
        "config_hash": record["hash"],
        "versions": " ".join(f"{k}={v}" for k, v in record.get("versions", cell["versions"]).items()),
    }


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the seeds of a model that ended well in every arm.

    Example:
        >>> rows = [("mlp", arm, seed, "ok") for arm in ("none", "disuse") for seed in (0, 1)]
        >>> table = pd.DataFrame(rows, columns=["model", "arm", "seed", "status"])
        >>> table.loc[0, "status"] = "nan-loss"
        >>> paired(table)["seed"].tolist()
        [1, 1]
    """
    well = table[table["status"] == "ok"]
    return well[well.groupby(["model", "seed"])["arm"].transform("nunique") == table["arm"].nunique()]


def summary_rows(runs: pd.DataFrame) -> list[Row]:
    """Return one row a model and arm, in the order of appearance; `runs` as `paired` leaves them."""
    by = {key: group.set_index("seed") for key, group in runs.groupby(["model", "arm"], sort=False)}
    rows = []
    for (model, arm), group in by.items():
        accuracy = group["accuracy"]
        speeds = group["epochs_to_dense"].dropna().astype(float)
        others = {name: by[model, name]["accuracy"] for name in REFERENCES if name != arm and (model, name) in by}
        rows.append(
            Row(
                str(model),
                str(arm),
                seeds=len(group),
                accuracy=float(accuracy.mean()),
                spread=float(accuracy.std(ddof=1)) if len(group) > 1 else None,
                alive=float(group["alive"].mean()),
                prunable=int(group["prunable"].iloc[0]),
                against={name: Difference.of((100 * (accuracy - other)).tolist()) for name, other in others.items()},
                speed=float(speeds.mean()) if len(speeds) else None,
                reached=len(speeds),
                best_epoch=float(group["best_epoch"].mean()),
                train_seconds=float(group["train_seconds"].median()),
                peak_memory_mb=float(group["peak_memory_mb"].median()),
            )
        )
    return rows


class LayerRow(TypedDict):
    """A layer of a model: its number of weights, and the mean number that is alive in every arm."""

    model: str
    layer: str
    size: int
    alive: dict[str, float]


def layer_rows(records: Sequence[ImageRecord], runs: pd.DataFrame) -> list[LayerRow]:
    """Return one row a layer of a model.

    Layers are matched by their place, for a network with dropout layers counts its modules otherwise; the name is that
    of the first record.
    """
    used = set(runs["config_hash"])
    names: dict[tuple[str, int], tuple[str, int]] = {}
    alive: dict[tuple[str, int], dict[str, list[int]]] = {}
    for record in records:
        if record["hash"] in used:
            cell = record["cell"]
            for place, (name, (left, size)) in enumerate(record["layers"].items()):
                names.setdefault((cell["model"], place), (name, size))
                alive.setdefault((cell["model"], place), {}).setdefault(cell["arm"], []).append(left)
    return [
        {
            "model": model,
            "layer": name,
            "size": size,
            "alive": {arm: float(np.mean(counts)) for arm, counts in alive[model, place].items()},
        }
        for (model, place), (name, size) in names.items()
    ]
