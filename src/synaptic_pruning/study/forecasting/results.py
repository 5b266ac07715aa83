"""The tidy table of a study, one row a run, and the networks worth keeping."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from synaptic_pruning.study.engine.atomic_write import write_atomically

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
_SHARED = ["sparsity", "prunable", "alive", "train_seconds", "peak_memory_mb", "best_epoch", "status"]


def to_table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Turn selected records into the table of runs: one row an arm of a training, failed ones with their reason.

    Errors are in the units of the data; `skill` is 1 - MAE / MAE of persistence; `sparsity`, `prunable` and `alive`
    are counted on the evaluated weights. Arms read off one training carry the same training time and memory.
    """
    rows = [_row(record, arm["name"]) for record in records for arm in record["cell"]["arms"]]
    table = pd.DataFrame(rows, columns=COLUMNS)
    kinds = {name: "Int64" if name in _COUNTS else "float64" for name in COLUMNS if name not in _TEXTS}
    return table.astype(kinds)


def _row(record: Mapping[str, Any], arm: str) -> dict[str, Any]:
    cell = record["cell"]
    return {
        **{name: cell[name] for name in ("dataset", "model", "length", "horizon", "seed", "protocol", "data_hash")},
        **{name: record.get(name) for name in _SHARED},
        **record.get("arms", {}).get(arm, {}),
        "arm": arm,
        "setting": record["setting"],
        "config_hash": record["hash"],
        "versions": " ".join(f"{k}={v}" for k, v in record.get("versions", cell["versions"]).items()),
    }


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write `results.parquet` and `results.csv`, each whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(folder / "results.parquet", buffer.getvalue())
    write_atomically(folder / "results.csv", table.to_csv(index=False))


def best_records(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The record with the smallest *validation* error of every data set and model; the test set has no say."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in single_networks(records):
        key = record["cell"]["dataset"], record["cell"]["model"]
        if validation_error(record) < validation_error(best.get(key, {"status": "absent"})):
            best[key] = record
    return best


def validation_error(record: Mapping[str, Any]) -> float:
    """Smallest validation MAE of a selected record's arms; infinite when the run did not end well."""
    if record["status"] != "ok":
        return float("inf")
    return min(float(arm["validation_mae"]) for arm in record["arms"].values())


def single_networks(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records of one network each, ensembles left out."""
    return [record for record in records if "members" not in record]


def keep_best_networks(records: Iterable[Mapping[str, Any]], cells: Path, folder: Path) -> None:
    """Copy the best network of every data set and model to `<folder>/<data set>-<model>.safetensors`."""
    folder.mkdir(exist_ok=True)
    for (dataset, model), record in best_records(records).items():
        network = (cells / f"{record['hash']}.safetensors").read_bytes()
        write_atomically(folder / f"{quote(dataset, safe=' ')}-{model}.safetensors", network)
