"""Which pictures the report shows, and of what: with many data sets only some have panels of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.report.evidence import REFERENCE
from synaptic_pruning.study.forecasting.report.verdict import ARM
from synaptic_pruning.study.forecasting.results import RunRecord, best_records, single_networks, validation_error
from synaptic_pruning.study.plots import errors as pictures
from synaptic_pruning.study.plots import pruning as sparsity_pictures
from synaptic_pruning.study.plots import training as figures
from synaptic_pruning.study.plots.style import Panel
from synaptic_pruning.study.statistics.blocks import blocks

MOST_SHOWN = 6
_MOST_MASKS = 8


def drawings(
    runs: pd.DataFrame,
    records: Sequence[RunRecord],
    block_of: Mapping[str, str],
    shown: Sequence[str],
    largest: str,
    folder: Path | None,
) -> dict[str, Any]:
    """Return the pictures by name; those that have nothing to show are None or empty.

    Args:
        runs: paired runs (`blocks.paired`), at least one.
        records: the selected records of these arms.
        shown: data sets with panels of their own (`choose`).
        largest: the data set whose networks are looked into.
        folder: where the networks of the cells lie; None shows no masks.
    """
    arms, table = set(runs["arm"]), blocks(runs, block_of=block_of)
    of_arm = [r for r in single_networks(records) if ARM in r.get("arms", {}) and r["history"]]
    looked_into = {model: r for (name, model), r in best_records(of_arm).items() if name == largest}
    by_length = REFERENCE in arms and runs["length"].nunique() > 1
    return {
        "rank_diagram": pictures.rank_diagram(table) if min(table.shape) > 1 else None,
        "ranks": figures.ranks(runs, block_of) if runs["model"].nunique() > 1 or len(table) == 1 else None,
        "heat_map": pictures.heat_map(runs) if len(arms) > 1 and REFERENCE in arms else None,
        "training": figures.training(single_networks(records)),
        "dying": sparsity_pictures.error_while_dying([r["history"] for r in of_arm]) if of_arm else None,
        "layers": _layers(looked_into),
        "masks": _masks(looked_into, folder),
        "weights": figures.weights(runs[runs["dataset"].isin(shown)]),
        "forecasts": figures.forecasts(_forecast(records, shown)),
        "costs": figures.costs(runs),
        "by_length": pictures.costs_by_length(runs) if by_length else [],
    }


def choose(runs: pd.DataFrame) -> list[str]:
    """Return the data sets with panels of their own: all of a few, else six evenly over how well the arm did on them.

    The measure is the error relative to "none"; the first and the last are the best and the worst.

    Args:
        runs: paired runs.
    """
    table = blocks(runs)
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
            panels.append(sparsity_pictures.layers(entries, title=model, name=f"layers-{len(panels)}"))
    return panels


def _masks(records: Mapping[str, RunRecord], folder: Path | None) -> dict[str, Any] | None:
    """The masks of the network with the smallest validation error; of a deep one those of the largest weights."""
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
        "setting": record["setting"],
        "layers": len(names),
        "panels": sparsity_pictures.masks({name: stored[name] != 0 for name in kept}),
    }


def _forecast(records: Sequence[RunRecord], shown: Sequence[str]) -> list[RunRecord]:
    """The records whose forecasts are drawn: of every data set the best model on validation data, one seed of it."""
    best: dict[str, RunRecord] = {}
    for (dataset, _), record in best_records(records).items():
        if dataset in shown and (dataset not in best or validation_error(record) < validation_error(best[dataset])):
            best[dataset] = record
    chosen = {_case(record) for record in best.values()}
    return [record for record in records if record["status"] == "ok" and _case(record) in chosen]


def _case(record: RunRecord) -> tuple[str, str, int, int]:
    cell = record["cell"]
    return cell["dataset"], cell["model"], cell["length"], cell["seed"]
