"""Choose options by validation error, turn trainings into runs, and runs into the tidy table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Required, TypedDict, cast
from urllib.parse import quote

import numpy as np
import pandas as pd

from synaptic_pruning.study.engine import Record, write_atomically
from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.cells import Answer, BaselineRecord, Cell, CellRecord
from synaptic_pruning.study.forecasting.options import Option
from synaptic_pruning.study.forecasting.plan import Case, Plan
from synaptic_pruning.study.forecasting.run import read_forecasts

TAIL = 100
"""Number of the last test forecasts that a run keeps for the plot."""
COLUMNS = [
    "dataset",
    "source",
    "domain",
    "regime",
    "model",
    "horizon",
    "length",
    "arm",
    "option",
    "learning_rate",
    "seed",
    "mae",
    "rmse",
    "mase",
    "skill",
    "validation_mae",
    "validation_rmse",
    "sparsity",
    "prunable",
    "alive",
    "epochs",
    "best_epoch",
    "most_epochs",
    "status",
    "train_seconds",
    "predict_seconds",
    "peak_memory_mb",
    "protocol",
    "config_hash",
    "data_hash",
    "versions",
]
"""Columns of the table of runs; `epochs` is the number run, `most_epochs` the most that were allowed."""
_COUNTS = ["length", "horizon", "seed", "prunable", "alive", "epochs", "best_epoch", "most_epochs"]
_NUMBERS = {
    "learning_rate",
    "mae",
    "rmse",
    "mase",
    "skill",
    "validation_mae",
    "validation_rmse",
    "sparsity",
    "train_seconds",
    "predict_seconds",
    "peak_memory_mb",
}
_OF_CELL = ["dataset", "regime", "model", "length", "horizon", "seed", "learning_rate", "protocol", "data_hash"]
_OF_RECORD = [
    "sparsity",
    "prunable",
    "alive",
    "train_seconds",
    "peak_memory_mb",
    "best_epoch",
    "most_epochs",
    "status",
]

_VALIDATION = ("validation_mae", "validation_rmse")

Chosen = dict[tuple[Case, str], Option]
"""The option that each arm took in each case."""


class Tail(TypedDict):
    """The last test forecasts of a run, one step ahead; at most `TAIL` of them.

    Attributes:
        truth: What came.
        forecasts: What each arm forecast.
    """

    truth: list[float]
    forecasts: dict[str, list[float]]


class RunRecord(CellRecord, total=False):
    """A training of an option that an arm took, or an ensemble of them; its settings hold the names of the arms.

    Attributes:
        arms: Errors by the name of the arm; empty or absent where the run did not end well.
        option: `Option.text` of what was chosen, with the number of members where there are several.
        tail: The last forecasts; absent where the run did not end well.
        members: Hashes of the networks of an ensemble; absent for a single network.
    """

    arms: dict[str, Answer]
    option: Required[str]
    tail: Tail
    members: list[str]


def case_of(cell: Cell) -> Case:
    """Return the case that a cell belongs to."""
    return Case(cell.dataset, cell.regime, cell.model, cell.length, cell.horizon)


def choose(cells: Sequence[Cell], records: Sequence[Record[Any] | None], plan: Plan) -> Chosen:
    """Return the option that each arm takes in each case.

    It is the one with the smallest validation error in the first stage. Of arms that choose a sparsity it is that with
    the fewest weights within `Arm.tolerance` of the smallest. An option whose training failed is taken only where all
    failed. The test set has no say.

    Args:
        cells: The cells of the first stage, of `plan.expand`.
        records: What came of them, in the same order; None where nothing did yet.
        plan: The plan.

    Returns:
        The options; arms some of whose cells have no record yet are left out.
    """
    found: dict[Case, dict[Option, Record[Any] | None]] = {}
    for cell, record in zip(cells, records, strict=True):
        found.setdefault(case_of(cell), {})[cell.option] = record
    chosen: Chosen = {}
    for case, trainings in found.items():
        for name in plan.arms:
            errors = {}
            for option in plan.options(name):
                record = trainings[option]
                if record is not None:
                    errors[option] = answer_error(cast(CellRecord, record), plan.passes(name))
            if len(errors) == len(plan.options(name)):
                chosen[case, name] = _smallest(errors, ARMS[name].tolerance)
    return chosen


def only_options(plan: Plan, cases: Iterable[Case]) -> Chosen:
    """Return the one option of every arm, of a plan in which nothing is chosen."""
    return {(case, arm): plan.options(arm)[0] for case in cases for arm in plan.arms}


def select(
    cells: Sequence[Cell], records: Sequence[CellRecord], chosen: Chosen, plan: Plan, folder: Path
) -> list[RunRecord]:
    """Return one record a run, with the scores of its arms under their names.

    Arms that took the same option share the record of a training. An ensemble has records of its own: each is the mean
    forecast of networks that no other run of it has.

    Args:
        cells: The cells of the second stage, of `plan.expand_chosen`.
        records: What came of them, in the same order.
        chosen: The options that they were made of.
        plan: The plan.
        folder: Where the forecasts of the cells lie.
    """
    trained = {(case_of(cell), cell.option, cell.seed): record for cell, record in zip(cells, records, strict=True)}
    runs: dict[tuple[str, str], RunRecord] = {}
    for (case, name), option in chosen.items():
        for seeds in plan.run_seeds(name, option):
            networks = [trained[case, option, seed] for seed in seeds]
            if ARMS[name].ensemble:
                runs[name, networks[0]["hash"]] = _ensemble(name, networks, option, folder)
            else:
                run = runs.setdefault(("", networks[0]["hash"]), _bare(networks[0], option))
                _enter(run, name, plan.passes(name), folder)
    return list(runs.values())


def answer_error(record: CellRecord, passes: int) -> float:
    """Return the validation MAE of a training asked with so many passes; infinite when it did not end well."""
    return record["answers"][str(passes)]["validation_mae"] if record["status"] == "ok" else math.inf


def validation_error(run: RunRecord) -> float:
    """Return the smallest validation MAE of a run's arms; infinite when it did not end well."""
    return min(answer["validation_mae"] for answer in run["arms"].values()) if run["status"] == "ok" else math.inf


def _smallest(errors: Mapping[Option, float], tolerance: float) -> Option:
    """Return the option with the fewest weights within the tolerance of the smallest error."""
    most = min(errors.values()) * (1 + tolerance)
    if math.isinf(most):  # every option failed
        return next(iter(errors))
    near = [option for option, error in errors.items() if error <= most]
    return min(near, key=lambda option: (option.share if tolerance else 0, errors[option]))


def _bare(record: CellRecord, option: Option) -> RunRecord:
    """Return a run of a training that no arm has claimed yet."""
    own = {**record, "cell": {**record["cell"], "arms": []}, "arms": {}, "option": option.text}
    run = cast(RunRecord, own)
    if record["status"] == "ok":
        run["tail"] = {"truth": [], "forecasts": {}}
    return run


def _enter(run: RunRecord, name: str, passes: int, folder: Path) -> None:
    """Enter an arm in the record of its training."""
    run["cell"]["arms"].append({"name": name})
    if run["status"] == "ok":
        forecasts = read_forecasts(folder, run["hash"])
        run["arms"][name] = run["answers"][str(passes)]
        run["tail"]["truth"] = _tail(forecasts["test"])
        run["tail"]["forecasts"][name] = _tail(forecasts[f"test {passes}"])


def _ensemble(name: str, networks: Sequence[CellRecord], option: Option, folder: Path) -> RunRecord:
    from synaptic_pruning.tasks.forecasting import scores

    run = _bare(next((member for member in networks if member["status"] != "ok"), networks[0]), option)
    run["cell"]["arms"] = [{"name": name}]
    run["cell"]["seed"] = networks[0]["cell"]["seed"]
    run["option"] = f"{len(networks)} × {option.text}".rstrip(" ×")
    run["members"] = [member["hash"] for member in networks]
    if run["status"] != "ok":
        return run
    stored = [read_forecasts(folder, member["hash"]) for member in networks]
    mean = {part: np.mean([one[f"{part} 0"] for one in stored], axis=0) for part in ("test", "validation")}
    before = scores(stored[0]["validation"], mean["validation"], networks[0]["divided_by"])
    answer = {
        **scores(stored[0]["test"], mean["test"], networks[0]["divided_by"]),
        "validation_mae": before["mae"],
        "validation_rmse": before["rmse"],
        "predict_seconds": sum(member["answers"]["0"]["predict_seconds"] for member in networks),
    }
    run["arms"][name] = cast(Answer, answer)
    run["tail"] = {"truth": _tail(stored[0]["test"]), "forecasts": {name: _tail(mean["test"])}}
    run["alive"] = sum(member["alive"] for member in networks)
    # Beside one dense network; dense ones are not made by pruning.
    run["sparsity"] = 1 - run["alive"] / run["prunable"] if option.prunes else 0.0
    run["train_seconds"] = sum(member["train_seconds"] for member in networks)
    run["peak_memory_mb"] = max(member["peak_memory_mb"] for member in networks)
    return run


def _tail(values: "np.ndarray") -> list[float]:
    return [float(value) for value in values[-TAIL:, 0]]


def to_table(runs: Iterable[RunRecord], sources: Mapping[str, str], domains: Mapping[str, str]) -> pd.DataFrame:
    """Turn runs into their table: one row an arm of a training, failed ones with their reason.

    Errors are in the units of the data; `skill` is 1 - MAE / MAE of persistence; `sparsity`, `prunable` and `alive`
    are counted on the evaluated weights. Arms read off one training carry the same training time and memory.

    Args:
        runs: The selected runs.
        sources: Source of every data set; one that is not named is its own.
        domains: Domain of every data set, where it is known.
    """
    return _typed([_row(run, arm["name"]) for run in runs for arm in run["cell"]["arms"]], sources, domains)


def to_baseline_table(
    records: Iterable[BaselineRecord], sources: Mapping[str, str], domains: Mapping[str, str]
) -> pd.DataFrame:
    """Turn baselines into rows of the same columns: the arm is the baseline, and there is no model.

    The arguments are those of `to_table`.
    """
    rows = [
        {
            **{name: value for name, value in record["cell"].items() if name in COLUMNS},
            **record.get("scores", {}),
            "model": "",
            "arm": record["cell"]["baseline"],
            "option": "",
            "status": record["status"],
            "train_seconds": record.get("train_seconds"),
            "config_hash": record["hash"],
            "versions": _versions(record),
        }
        for record in records
    ]
    return _typed(rows, sources, domains)


def _typed(rows: Sequence[Mapping[str, Any]], sources: Mapping[str, str], domains: Mapping[str, str]) -> pd.DataFrame:
    placed = [
        {**row, "source": sources.get(row["dataset"], row["dataset"]), "domain": domains.get(row["dataset"], "")}
        for row in rows
    ]
    kinds = dict.fromkeys(_COUNTS, "Int64") | dict.fromkeys(_NUMBERS, "float64")
    return pd.DataFrame(placed, columns=COLUMNS).astype(kinds)


def _row(run: RunRecord, arm: str) -> dict[str, Any]:
    cell: Mapping[str, Any] = run["cell"]
    entries: Mapping[str, Any] = run
    return {
        **{name: cell[name] for name in _OF_CELL},
        **{name: entries.get(name) for name in _OF_RECORD},
        **run.get("arms", {}).get(arm, {}),
        "arm": arm,
        "option": run["option"],
        "epochs": len(run["history"]) if "history" in run else None,
        "config_hash": run["hash"],
        "versions": _versions(run),
    }


def _versions(record: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in (record.get("versions") or record["cell"].get("versions", {})).items())


def to_options_table(cells: Sequence[Cell], records: Sequence[CellRecord]) -> pd.DataFrame:
    """Turn the first stage into a table: one row for each way of asking a training, with its validation errors.

    Args:
        cells: The cells of the first stage.
        records: What came of them, in the same order.
    """
    rows = [
        {
            **case_of(cell)._asdict(),
            "option": cell.option.text,
            "algorithm": cell.option.algorithm,
            "learning_rate": cell.learning_rate,
            "passes": passes,
            **_validation(record, passes),
            "best_epoch": record.get("best_epoch"),
            "most_epochs": record.get("most_epochs"),
            "status": record["status"],
            "config_hash": cell.hash,
        }
        for cell, record in zip(cells, records, strict=True)
        for passes in cell.passes
    ]
    kinds = dict.fromkeys(("best_epoch", "most_epochs"), "Int64") | dict.fromkeys(_VALIDATION, "float64")
    return pd.DataFrame(rows).astype(kinds) if rows else pd.DataFrame()


def _validation(record: CellRecord, passes: int) -> dict[str, float | None]:
    if record["status"] != "ok":
        return dict.fromkeys(_VALIDATION)
    answer = record["answers"][str(passes)]
    return {"validation_mae": answer["validation_mae"], "validation_rmse": answer["validation_rmse"]}


def gather_forecasts(runs: Iterable[RunRecord], plan: Plan, folder: Path) -> dict[str, "np.ndarray"]:
    """Return the forecasts of all single networks, and the truth.

    Args:
        runs: The selected runs.
        plan: The plan.
        folder: Where the forecasts of the cells lie.

    Returns:
        Arrays by name. "data set / regime / horizon / test" is the truth, shape (windows, horizon), float32. The name
        of a run has the model, the window length, the arm and the seed before the part.
    """
    found: dict[str, np.ndarray] = {}
    for run in single_networks(runs):
        if run["status"] != "ok":
            continue
        cell, stored = run["cell"], read_forecasts(folder, run["hash"])
        where = f"{cell['dataset']} / {cell['regime']} / {cell['horizon']}"
        for part in ("test", "validation"):
            found[f"{where} / {part}"] = stored[part].astype(np.float32)
            for arm in run["arms"]:
                own = f"{where} / {cell['model']} / {cell['length']} / {arm} / {cell['seed']} / {part}"
                found[own] = stored[f"{part} {plan.passes(arm)}"].astype(np.float32)
    return found


def best_records(runs: Iterable[RunRecord]) -> dict[tuple[str, str, int], RunRecord]:
    """Return the run with the smallest *validation* error of every data set, model and horizon, in order."""
    best: dict[tuple[str, str, int], RunRecord] = {}
    smallest: dict[tuple[str, str, int], float] = {}
    for run in single_networks(runs):
        key, error = (run["cell"]["dataset"], run["cell"]["model"], run["cell"]["horizon"]), validation_error(run)
        if error < smallest.get(key, math.inf):
            best[key], smallest[key] = run, error
    return best


def single_networks(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs of one network each, ensembles left out."""
    return [run for run in runs if "members" not in run]


def network_files(runs: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """Return the best run of every data set, model and horizon, and the best pruned one, by the file of its network.

    A file is named `<data set>-<model>-<arm>.safetensors`; where there are several horizons the name has the horizon
    before the arm. Where the best network is pruned, there is one file.
    """
    return {name: run for files in _files_by_stem(runs).values() for name, run in files.items()}


def keep_best_networks(runs: Iterable[RunRecord], cells: Path, folder: Path) -> None:
    """Copy networks to their files (`network_files`); remove those of an earlier call that are no longer the best."""
    folder.mkdir(exist_ok=True)
    for stem, files in _files_by_stem(runs).items():
        for name in {f"{stem}-{arm}.safetensors" for arm in ARMS} - files.keys():
            (folder / name).unlink(missing_ok=True)
        for name, run in files.items():
            write_atomically(folder / name, (cells / f"{run['hash']}.safetensors").read_bytes())


def _files_by_stem(runs: Iterable[RunRecord]) -> dict[str, dict[str, RunRecord]]:
    """Return the files of every data set, model and horizon by what their names have before the arm."""
    runs = list(runs)
    best = best_records(runs)
    pruned = best_records([run for run in runs if run["cell"]["option"]["algorithm"]])
    several = len({horizon for _, _, horizon in best}) > 1
    found = {}
    for key, run in best.items():
        dataset, model, horizon = key
        stem = f"{quote(dataset, safe=' ')}-{model}" + (f"-{horizon}" if several else "")
        found[stem] = {f"{stem}-{_best_arm(one)}.safetensors": one for one in (run, pruned.get(key, run))}
    return found


def _best_arm(run: RunRecord) -> str:
    """Return the arm of a training that has the smallest validation error."""
    return min(run["arms"], key=lambda name: run["arms"][name]["validation_mae"])
