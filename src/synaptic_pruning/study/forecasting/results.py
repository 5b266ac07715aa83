"""Turn trainings into runs by validation error, and runs into the tidy table; keep the best networks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Required, TypedDict, cast
from urllib.parse import quote

import numpy as np
import pandas as pd

from synaptic_pruning.study.engine import write_atomically
from synaptic_pruning.study.forecasting.arms import ARMS, Regime, members
from synaptic_pruning.study.forecasting.cells import Answer, Cell, CellRecord
from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.run import read_forecasts

TAIL = 100
"""Number of the last test forecasts that a run keeps for the plot."""
COLUMNS = [
    "dataset",
    "model",
    "arm",
    "length",
    "horizon",
    "seed",
    "protocol",
    "setting",
    "mae",
    "rmse",
    "mase",
    "skill",
    "sparsity",
    "prunable",
    "alive",
    "train_seconds",
    "predict_seconds",
    "peak_memory_mb",
    "best_epoch",
    "validation_mae",
    "status",
    "config_hash",
    "data_hash",
    "versions",
]
_COUNTS = ["length", "horizon", "seed", "prunable", "alive", "best_epoch"]
_TEXTS = {"dataset", "model", "arm", "protocol", "setting", "status", "config_hash", "data_hash", "versions"}
_OF_CELL = ["dataset", "model", "length", "horizon", "seed", "protocol", "data_hash"]
_OF_RECORD = ["sparsity", "prunable", "alive", "train_seconds", "peak_memory_mb", "best_epoch", "status"]


class Tail(TypedDict):
    """The last test forecasts of a run, one step ahead; at most `TAIL` of them.

    Attributes:
        truth: What came.
        forecasts: What each arm forecast.
    """

    truth: list[float]
    forecasts: dict[str, list[float]]


class RunRecord(CellRecord, total=False):
    """A training that an arm chose, or an ensemble of them; its settings hold the names of the arms.

    Attributes:
        arms: Errors by the name of the arm; empty or absent where the run did not end well.
        setting: `Regime.setting` of what was chosen, with the number of members where there are several.
        tail: The last forecasts; absent where the run did not end well.
        members: Hashes of the networks of an ensemble; absent for a single network.
    """

    arms: dict[str, Answer]
    setting: Required[str]
    tail: Tail
    members: list[str]


_Group = tuple[str, str, int]


def select(cells: Sequence[Cell], records: Sequence[CellRecord], plan: Plan, folder: Path) -> list[RunRecord]:
    """Return one record a run: the training that an arm chose, with that arm's scores under its name.

    An arm chooses one setting for each data set, model and window length, by the mean validation error over all seeds:
    the smallest, or, of arms that choose a sparsity, the sparsest within `Arm.tolerance` of the smallest. A setting of
    which some seed failed is chosen only where every setting did. The test set has no say. Arms that chose the same
    training share a record. An ensemble has records of its own, one a seed: the mean forecast of so many seeds from
    there on, of the setting whose means have the smallest validation error.

    Args:
        cells: The cells that were run.
        records: What came of them, in the same order.
        plan: The plan that the cells were expanded from.
        folder: Where the forecasts of the cells lie.
    """
    found: dict[_Group, dict[Regime, dict[int, CellRecord]]] = {}
    for cell, record in zip(cells, records, strict=True):
        group = cell.dataset, cell.model, cell.length
        found.setdefault(group, {}).setdefault(cell.regime, {})[cell.seed] = record
    return [run for trainings in found.values() for run in _runs(trainings, plan, folder)]


def answer_error(record: CellRecord, passes: int) -> float:
    """Return the validation MAE of a training asked with so many passes; infinite when it did not end well."""
    return record["answers"][str(passes)]["validation_mae"] if record["status"] == "ok" else math.inf


def validation_error(run: RunRecord) -> float:
    """Return the smallest validation MAE of a run's arms; infinite when it did not end well."""
    return min(answer["validation_mae"] for answer in run["arms"].values()) if run["status"] == "ok" else math.inf


def _runs(trainings: Mapping[Regime, Mapping[int, CellRecord]], plan: Plan, folder: Path) -> list[RunRecord]:
    runs: dict[tuple[str, str], RunRecord] = {}
    for name in plan.arms:
        if ARMS[name].ensemble:
            found = _ensembles(name, trainings, plan, folder)
            runs |= {(name, str(seed)): run for seed, run in zip(plan.seeds, found, strict=True)}
            continue
        passes = plan.passes(name)
        errors = {
            regime: [answer_error(trainings[regime][seed], passes) for seed in plan.seeds]
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
    name: str, trainings: Mapping[Regime, Mapping[int, CellRecord]], plan: Plan, folder: Path
) -> list[RunRecord]:
    found: dict[Regime, list[RunRecord]] = {}
    for regime in plan.candidates(name):
        seeds = plan.trained_seeds(name, regime)
        for first in range(len(plan.seeds)):
            own = [seeds[(first + i) % len(seeds)] for i in range(members(regime.sparsity))]
            run = _ensemble(name, [trainings[regime][seed] for seed in own], regime, folder)
            found.setdefault(regime, []).append(run)
    errors = {regime: [validation_error(run) for run in runs] for regime, runs in found.items()}
    return found[_choose(errors, ARMS[name].tolerance)]


def _choose(errors: Mapping[Regime, Sequence[float]], tolerance: float) -> Regime:
    """Return the sparsest regime within the tolerance of the smallest mean error, of several the one that has it."""
    mean = {regime: float(np.mean(values)) for regime, values in errors.items()}
    most = min(mean.values()) * (1 + tolerance)
    if math.isinf(most):  # every setting failed
        return next(iter(mean))
    return min((r for r in mean if mean[r] <= most), key=lambda r: (-r.sparsity if tolerance else 0, mean[r]))


def _bare(record: CellRecord, regime: Regime) -> RunRecord:
    """Return a run of a training that no arm has chosen yet."""
    own = {**record, "cell": {**record["cell"], "arms": []}, "arms": {}, "setting": regime.setting}
    run = cast(RunRecord, own)
    if record["status"] == "ok":
        run["tail"] = {"truth": [], "forecasts": {}}
    return run


def _ensemble(name: str, networks: Sequence[CellRecord], regime: Regime, folder: Path) -> RunRecord:
    from synaptic_pruning.tasks.forecasting import mean_absolute_error, scores

    run = _bare(next((member for member in networks if member["status"] != "ok"), networks[0]), regime)
    run["cell"]["arms"] = [{"name": name}]
    run["cell"]["seed"] = networks[0]["cell"]["seed"]
    run["setting"] = f"{len(networks)} × {regime.setting}"
    run["members"] = [member["hash"] for member in networks]
    if run["status"] != "ok":
        return run
    stored = [read_forecasts(folder, member["hash"]) for member in networks]
    mean = {part: np.mean([one[f"{part} 0"] for one in stored], axis=0) for part in ("test", "validation")}
    answer = {
        **scores(stored[0]["test"], mean["test"], networks[0]["divided_by"]),
        "validation_mae": mean_absolute_error(stored[0]["validation"], mean["validation"]),
        "predict_seconds": sum(member["answers"]["0"]["predict_seconds"] for member in networks),
    }
    run["arms"][name] = cast(Answer, answer)
    run["tail"] = {"truth": _tail(stored[0]["test"]), "forecasts": {name: _tail(mean["test"])}}
    run["alive"] = sum(member["alive"] for member in networks)
    # Beside one dense network; narrow ones are not made by pruning.
    run["sparsity"] = 1 - run["alive"] / run["prunable"] if regime.prunes else 0.0
    run["train_seconds"] = sum(member["train_seconds"] for member in networks)
    run["peak_memory_mb"] = max(member["peak_memory_mb"] for member in networks)
    return run


def _tail(values: "np.ndarray") -> list[float]:
    return [float(value) for value in values[-TAIL:, 0]]


def to_table(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """Turn runs into their table: one row an arm of a training, failed ones with their reason.

    Errors are in the units of the data; `skill` is 1 - MAE / MAE of persistence; `sparsity`, `prunable` and `alive`
    are counted on the evaluated weights. Arms read off one training carry the same training time and memory.
    """
    rows = [_row(run, arm["name"]) for run in runs for arm in run["cell"]["arms"]]
    table = pd.DataFrame(rows, columns=COLUMNS)
    kinds = {name: "Int64" if name in _COUNTS else "float64" for name in COLUMNS if name not in _TEXTS}
    return table.astype(kinds)


def _row(run: RunRecord, arm: str) -> dict[str, Any]:
    cell: Mapping[str, Any] = run["cell"]
    entries: Mapping[str, Any] = run
    return {
        **{name: cell[name] for name in _OF_CELL},
        **{name: entries.get(name) for name in _OF_RECORD},
        **run.get("arms", {}).get(arm, {}),
        "arm": arm,
        "setting": run["setting"],
        "config_hash": run["hash"],
        "versions": " ".join(f"{k}={v}" for k, v in run.get("versions", run["cell"]["versions"]).items()),
    }


def best_records(runs: Iterable[RunRecord]) -> dict[tuple[str, str], RunRecord]:
    """Return the run with the smallest *validation* error of every data set and model; the test set has no say."""
    best: dict[tuple[str, str], RunRecord] = {}
    smallest: dict[tuple[str, str], float] = {}
    for run in single_networks(runs):
        key, error = (run["cell"]["dataset"], run["cell"]["model"]), validation_error(run)
        if error < smallest.get(key, math.inf):
            best[key], smallest[key] = run, error
    return best


def single_networks(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs of one network each, ensembles left out."""
    return [run for run in runs if "members" not in run]


def keep_best_networks(runs: Iterable[RunRecord], cells: Path, folder: Path) -> None:
    """Copy the best network of every data set and model to `<folder>/<data set>-<model>.safetensors`."""
    folder.mkdir(exist_ok=True)
    for (dataset, model), run in best_records(runs).items():
        network = (cells / f"{run['hash']}.safetensors").read_bytes()
        write_atomically(folder / f"{quote(dataset, safe=' ')}-{model}.safetensors", network)
