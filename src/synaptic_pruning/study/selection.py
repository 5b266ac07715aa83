"""From trainings to runs: every arm takes its setting by *validation* error; the test set has no say."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synaptic_pruning.study.arms import ARMS, Regime
from synaptic_pruning.study.cells import Cell, read_forecasts
from synaptic_pruning.study.plan import Plan

TAIL = 100
"""How many of the last test forecasts a run keeps for the picture."""

Record = Mapping[str, Any]
_Group = tuple[str, str, int]


def select(cells: Sequence[Cell], records: Sequence[Record], plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Return one record a run: the training that an arm chose, with that arm's scores under its name.

    An arm chooses one setting for each data set, model and window length, by the mean validation error over all seeds:
    the smallest, or, of arms that remove weights, the sparsest within `Arm.tolerance` of the smallest. A setting of
    which some seed failed is chosen only where every setting did. Arms that chose the same training share a record. A
    sparse ensemble has records of its own: the mean forecast of `Grid.members` seeds from its own on.

    Args:
        cells: what was run, and `records` what came of it, in the same order.
        plan: what the cells were expanded from.
        folder: where the forecasts of the cells lie.
    """
    found: dict[_Group, dict[Regime, dict[int, Record]]] = {}
    for cell, record in zip(cells, records, strict=True):
        group = cell.dataset, cell.model, cell.length
        found.setdefault(group, {}).setdefault(cell.regime, {})[cell.seed] = record
    return [run for trainings in found.values() for run in _runs(trainings, plan, folder)]


def validation_error(record: Record, passes: int) -> float:
    """Validation MAE of a training when asked with so many passes; infinite when it did not end well."""
    if record["status"] != "ok":
        return float("inf")
    return float(record["answers"][str(passes)]["validation_mae"])


def _runs(trainings: Mapping[Regime, Mapping[int, Record]], plan: Plan, folder: Path) -> list[dict[str, Any]]:
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for name in plan.arms:
        passes, seeds = plan.passes(name), plan.trained_seeds(name)
        mean = {
            regime: float(np.mean([validation_error(trainings[regime][seed], passes) for seed in seeds]))
            for regime in plan.candidates(name)
        }
        chosen = _choose(mean, ARMS[name].tolerance)
        for place, seed in enumerate(plan.seeds):
            if ARMS[name].ensemble:
                own = [seeds[(place + i) % len(seeds)] for i in range(plan.grid.members)]
                members = [trainings[chosen][one] for one in own]
                runs[name, members[0]["hash"]] = _ensemble(name, members, chosen, folder)
                continue
            record = trainings[chosen][seed]
            run = runs.setdefault(("", record["hash"]), _bare(record, chosen))
            run["cell"]["arms"].append({"name": name})
            if record["status"] == "ok":
                forecasts = read_forecasts(folder, record["hash"])
                run["arms"][name] = record["answers"][str(passes)]
                run["tail"]["truth"] = _tail(forecasts["test"])
                run["tail"]["forecasts"][name] = _tail(forecasts[f"test {passes}"])
    return list(runs.values())


def _choose(errors: Mapping[Regime, float], tolerance: float) -> Regime:
    """Return the sparsest regime within the tolerance of the smallest error, of several the one with the smallest."""
    most = min(errors.values()) * (1 + tolerance)
    if math.isinf(most):  # every setting failed
        return next(iter(errors))
    return min((r for r in errors if errors[r] <= most), key=lambda r: (-r.sparsity if tolerance else 0, errors[r]))


def _bare(record: Record, regime: Regime) -> dict[str, Any]:
    run = {**record, "cell": {**record["cell"], "arms": []}, "arms": {}, "setting": regime.setting}
    return run | ({"tail": {"truth": [], "forecasts": {}}} if record["status"] == "ok" else {})


def _ensemble(name: str, members: Sequence[Record], regime: Regime, folder: Path) -> dict[str, Any]:
    from synaptic_pruning.tasks.forecasting.metrics import mean_absolute_error, scores

    run = _bare(next((m for m in members if m["status"] != "ok"), members[0]), regime)
    run["cell"] |= {"arms": [{"name": name}], "seed": members[0]["cell"]["seed"]}
    run |= {"setting": f"{len(members)} × {regime.setting}", "members": [member["hash"] for member in members]}
    if run["status"] != "ok":
        return run
    stored = [read_forecasts(folder, member["hash"]) for member in members]
    mean = {part: np.mean([one[f"{part} 0"] for one in stored], axis=0) for part in ("test", "validation")}
    answers = [member["answers"]["0"] for member in members]
    run["arms"][name] = {
        **scores(stored[0]["test"], mean["test"], members[0]["divided_by"]),
        "validation_mae": mean_absolute_error(stored[0]["validation"], mean["validation"]),
        "predict_seconds": sum(answer["predict_seconds"] for answer in answers),
    }
    run["tail"] = {"truth": _tail(stored[0]["test"]), "forecasts": {name: _tail(mean["test"])}}
    run["alive"] = sum(member["alive"] for member in members)
    run["sparsity"] = 1 - run["alive"] / run["prunable"]
    run["train_seconds"] = sum(member["train_seconds"] for member in members)
    run["peak_memory_mb"] = max(member["peak_memory_mb"] for member in members)
    return run


def _tail(values: "np.ndarray") -> list[float]:
    return [float(value) for value in values[-TAIL:, 0]]
