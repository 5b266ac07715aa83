"""From trainings to runs: every arm takes its setting by *validation* error; the test set has no say."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synaptic_pruning.study.forecasting.arms import ARMS, Regime, members
from synaptic_pruning.study.forecasting.cells import Cell, read_forecasts
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.results import validation_error as smallest_error

TAIL = 100
"""How many of the last test forecasts a run keeps for the picture."""

Record = Mapping[str, Any]
_Group = tuple[str, str, int]


def select(cells: Sequence[Cell], records: Sequence[Record], plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Return one record a run: the training that an arm chose, with that arm's scores under its name.

    An arm chooses one setting for each data set, model and window length, by the mean validation error over all seeds:
    the smallest, or, of arms that remove weights, the sparsest within `Arm.tolerance` of the smallest. A setting of
    which some seed failed is chosen only where every setting did. Arms that chose the same training share a record. A
    sparse ensemble has records of its own, one a seed: the mean forecast of so many seeds from there on, of the setting
    whose means have the smallest validation error.

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
        if ARMS[name].ensemble:
            found = _ensembles(name, trainings, plan, folder)
            runs |= {(name, str(seed)): run for seed, run in zip(plan.seeds, found, strict=True)}
            continue
        passes = plan.passes(name)
        errors = {
            regime: [validation_error(trainings[regime][seed], passes) for seed in plan.seeds]
            for regime in plan.candidates(name)
        }
        chosen = _choose(errors, ARMS[name].tolerance)
        for seed in plan.seeds:
            record = trainings[chosen][seed]
            run = runs.setdefault(("", record["hash"]), _bare(record, chosen))
            run["cell"]["arms"].append({"name": name})
            if record["status"] == "ok":
                forecasts = read_forecasts(folder, record["hash"])
                run["arms"][name] = record["answers"][str(passes)]
                run["tail"]["truth"] = _tail(forecasts["test"])
                run["tail"]["forecasts"][name] = _tail(forecasts[f"test {passes}"])
    return list(runs.values())


def _ensembles(
    name: str, trainings: Mapping[Regime, Mapping[int, Record]], plan: Plan, folder: Path
) -> list[dict[str, Any]]:
    found: dict[Regime, list[dict[str, Any]]] = {}
    for regime in plan.candidates(name):
        seeds = plan.trained_seeds(name, regime)
        for first in range(len(plan.seeds)):
            own = [seeds[(first + i) % len(seeds)] for i in range(members(regime.sparsity))]
            run = _ensemble(name, [trainings[regime][seed] for seed in own], regime, folder)
            found.setdefault(regime, []).append(run)
    errors = {regime: [smallest_error(run) for run in runs] for regime, runs in found.items()}
    return found[_choose(errors, ARMS[name].tolerance)]


def _choose(errors: Mapping[Regime, Sequence[float]], tolerance: float) -> Regime:
    """Return the sparsest regime within the tolerance of the smallest mean error, of several the one that has it."""
    mean = {regime: float(np.mean(values)) for regime, values in errors.items()}
    most = min(mean.values()) * (1 + tolerance)
    if math.isinf(most):  # every setting failed
        return next(iter(mean))
    return min((r for r in mean if mean[r] <= most), key=lambda r: (-r.sparsity if tolerance else 0, mean[r]))


def _bare(record: Record, regime: Regime) -> dict[str, Any]:
    run = {**record, "cell": {**record["cell"], "arms": []}, "arms": {}, "setting": regime.setting}
    return run | ({"tail": {"truth": [], "forecasts": {}}} if record["status"] == "ok" else {})


def _ensemble(name: str, networks: Sequence[Record], regime: Regime, folder: Path) -> dict[str, Any]:
    from synaptic_pruning.tasks.forecasting.metrics import mean_absolute_error, scores

    run = _bare(next((m for m in networks if m["status"] != "ok"), networks[0]), regime)
    run["cell"] |= {"arms": [{"name": name}], "seed": networks[0]["cell"]["seed"]}
    run |= {"setting": f"{len(networks)} × {regime.setting}", "members": [member["hash"] for member in networks]}
    if run["status"] != "ok":
        return run
    stored = [read_forecasts(folder, member["hash"]) for member in networks]
    mean = {part: np.mean([one[f"{part} 0"] for one in stored], axis=0) for part in ("test", "validation")}
    answers = [member["answers"]["0"] for member in networks]
    run["arms"][name] = {
        **scores(stored[0]["test"], mean["test"], networks[0]["divided_by"]),
        "validation_mae": mean_absolute_error(stored[0]["validation"], mean["validation"]),
        "predict_seconds": sum(answer["predict_seconds"] for answer in answers),
    }
    run["tail"] = {"truth": _tail(stored[0]["test"]), "forecasts": {name: _tail(mean["test"])}}
    run["alive"] = sum(member["alive"] for member in networks)
    # Beside one dense network; narrow ones are not made by removing anything.
    run["sparsity"] = 1 - run["alive"] / run["prunable"] if regime.prunes else 0.0
    run["train_seconds"] = sum(member["train_seconds"] for member in networks)
    run["peak_memory_mb"] = max(member["peak_memory_mb"] for member in networks)
    return run


def _tail(values: "np.ndarray") -> list[float]:
    return [float(value) for value in values[-TAIL:, 0]]
