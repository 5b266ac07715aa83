"""Choose the panels of the report; of many data sets only some have panels of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.report.evidence import REFERENCE
from synaptic_pruning.study.forecasting.report.verdict import ARM
from synaptic_pruning.study.forecasting.results import RunRecord, best_records, single_networks, validation_error
from synaptic_pruning.study.plots import (
    Panel,
    comparison_map,
    costs_by_length,
    costs_by_model,
    error_by_sparsity,
    error_by_weights,
    forecasts,
    heat_map,
    masks,
    rank_diagram,
    ranks,
    sparsity_by_layer,
    training_curves,
)
from synaptic_pruning.study.statistics import block_means

MOST_SHOWN = 6
"""Largest number of data sets with panels of their own."""
_MOST_MASKS = 8


def draw_panels(
    runs: pd.DataFrame,
    records: Sequence[RunRecord],
    block_of: Mapping[str, str],
    shown: Sequence[str],
    largest: str,
    folder: Path | None,
) -> dict[str, Any]:
    """Return the panels by name; a name without data has None or an empty list.

    Args:
        runs: Paired runs (`paired`), at least one.
        records: The selected records of these arms.
        block_of: Block of every data set.
        shown: Data sets with panels of their own (`choose_datasets`).
        largest: Data set whose networks are shown layer by layer.
        folder: Folder with the networks of the cells; None shows no masks.
    """
    arms, table = set(runs["arm"]), block_means(runs, block_of=block_of)
    of_arm = [r for r in single_networks(records) if ARM in r.get("arms", {}) and r["history"]]
    shown_networks = {model: r for (name, model, _), r in reversed(best_records(of_arm).items()) if name == largest}
    by_length = REFERENCE in arms and runs["length"].nunique() > 1
    return {
        "comparison": comparison_map(table) if min(table.shape) > 1 else None,
        "rank_diagram": rank_diagram(table) if min(table.shape) > 1 else None,
        "ranks": ranks(runs, block_of) if runs["model"].nunique() > 1 or len(table) == 1 else None,
        "heat_map": heat_map(runs) if len(arms) > 1 and REFERENCE in arms else None,
        "training": training_curves(single_networks(records)),
        "error_by_sparsity": error_by_sparsity([r["history"] for r in of_arm]) if of_arm else None,
        "layers": _layers(shown_networks),
        "masks": _masks(shown_networks, folder),
        "weights": error_by_weights(runs[runs["dataset"].isin(shown)]),
        "forecasts": forecasts(_forecast(records, shown)),
        "costs": costs_by_model(runs),
        "by_length": costs_by_length(runs) if by_length else [],
    }


def choose_datasets(runs: pd.DataFrame) -> list[str]:
    """Choose the data sets with panels of their own: all of a few, else six, evenly over the judged arm's success.

    The measure of success is the error relative to "none"; the first data set is the best, the last the worst.

    Args:
        runs: Paired runs (`paired`).
    """
    table = block_means(runs)
    if len(table) <= MOST_SHOWN or not {ARM, REFERENCE} <= set(table):
        return [str(name) for name in table.index[:MOST_SHOWN]]
    ordered = (table[ARM] / table[REFERENCE]).sort_values(kind="stable").index
    return [str(ordered[place]) for place in np.linspace(0, len(ordered) - 1, MOST_SHOWN).round().astype(int)]


def _layers(records: Mapping[str, RunRecord]) -> list[Panel]:
    panels: list[Panel] = []
    for model, record in records.items():
        paths = record.get("layers", {})
        entries = [
            {"progress": (epoch + 1) / len(path), "layer": layer, "sparsity": value}
            for layer, path in paths.items()
            for epoch, value in enumerate(path)
        ]
        if entries:
            panels.append(sparsity_by_layer(entries, title=model, name=f"layers-{len(panels)}"))
    return panels


def _masks(records: Mapping[str, RunRecord], folder: Path | None) -> dict[str, Any] | None:
    """Return the masks of the network with the smallest validation error; of a deep one its largest masks."""
    from safetensors.numpy import load_file

    networks = {model: r for model, r in records.items() if r.get("layers")}
    if folder is None or not networks:
        return None
    model = min(networks, key=lambda name: validation_error(networks[name]))
    record = networks[model]
    stored = load_file(folder / f"{record['hash']}.safetensors")
    names = sorted(record["layers"], key=lambda name: -stored[name].size)
    kept = [name for name in record["layers"] if name in names[:_MOST_MASKS]]
    return {
        "model": model,
        "cell": record["cell"],
        "option": record["option"],
        "layers": len(names),
        "panels": masks({name: stored[name] != 0 for name in kept}),
    }


def _forecast(records: Sequence[RunRecord], shown: Sequence[str]) -> list[RunRecord]:
    """Return the records whose forecasts are drawn: one seed of the best model on validation data per data set."""
    best: dict[str, RunRecord] = {}
    for (dataset, *_), record in best_records(records).items():
        if dataset in shown and (dataset not in best or validation_error(record) < validation_error(best[dataset])):
            best[dataset] = record
    chosen = {_case(record) for record in best.values()}
    return [record for record in records if record["status"] == "ok" and _case(record) in chosen]


def _case(record: RunRecord) -> tuple[str, str, str, int, int, int]:
    cell = record["cell"]
    return cell["dataset"], cell["regime"], cell["model"], cell["length"], cell["horizon"], cell["seed"]
