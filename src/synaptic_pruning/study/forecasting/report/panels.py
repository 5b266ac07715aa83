"""Choose the panels of the report; of many data sets only some have panels of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.plan import Plan
from synaptic_pruning.study.forecasting.report.by_series import errors_by_step
from synaptic_pruning.study.forecasting.report.evidence import REFERENCE
from synaptic_pruning.study.forecasting.report.verdict import ARM
from synaptic_pruning.study.forecasting.results import RunRecord, best_records, single_networks, validation_error
from synaptic_pruning.study.plots import (
    Panel,
    comparison_map,
    costs_by_length,
    costs_by_model,
    effects_plot,
    error_by_sparsity,
    error_by_weights,
    forecasts,
    growth,
    heat_map,
    masks,
    rank_diagram,
    ranks,
    sparsity_by_layer,
    training_curves,
)
from synaptic_pruning.study.plots import errors_by_step as draw_errors_by_step
from synaptic_pruning.study.statistics import block_means, case_name, effects_by_dataset, several_of

MOST_SHOWN = 6
"""Largest number of data sets with panels of their own."""
_MOST_MASKS = 8


def draw_panels(
    runs: pd.DataFrame,
    records: Sequence[RunRecord],
    plan: Plan,
    shown: Sequence[str],
    largest: str,
    axes: Mapping[str, Mapping[str, Any]],
    folder: Path | None,
) -> dict[str, Any]:
    """Return the panels of the networks by name; a name without data has None or an empty list.

    Args:
        runs: Paired runs (`paired`), at least one.
        records: The selected records of these arms.
        plan: Plan of the study.
        shown: Data sets with panels of their own (`choose_datasets`).
        largest: Data set whose networks are shown layer by layer.
        axes: What pictures of forecasts write on their axes: "times" and "targets" of the data sets.
        folder: Folder with the networks and forecasts of the cells; None shows no masks and no steps.
    """
    of_arm = [r for r in single_networks(records) if ARM in r.get("arms", {}) and r["history"]]
    ramps = [r["history"] for r in of_arm if len({entry["sparsity"] for entry in r["history"]}) > 1]
    best = {model: r for (name, model, _), r in reversed(best_records(of_arm).items()) if name == largest}
    shown_networks = {model: best[model] for model in plan.models if model in best}
    by_length = REFERENCE in set(runs["arm"]) and runs["length"].nunique() > 1
    by_step = pd.DataFrame() if folder is None else errors_by_step(runs, plan, folder, shown)
    return {
        "training": training_curves(single_networks(records)),
        "error_by_sparsity": error_by_sparsity(ramps) if ramps else None,
        "layers": _layers(shown_networks),
        "growth": growth(_growing(records, plan, largest)),
        "masks": _masks(shown_networks, folder, several_of(runs)),
        "weights": error_by_weights(runs[runs["dataset"].isin(shown)]),
        "forecasts": forecasts(_forecast(records, shown), axes["times"], axes["targets"], several_of(runs)),
        "by_step": draw_errors_by_step(by_step, axes["targets"]) if len(by_step) else [],
        "costs": costs_by_model(runs),
        "by_length": costs_by_length(runs) if by_length else [],
    }


def draw_regime(runs: pd.DataFrame, table: pd.DataFrame, block_of: Mapping[str, str], part: str) -> dict[str, Any]:
    """Return the panels that compare the arms in one regime, by name; a name without data has None or an empty list.

    Args:
        runs: Paired runs (`paired`) of the regime, at least one.
        table: Their errors, one row per block, one column per arm.
        block_of: Block of every data set.
        part: Name of the regime, where the page has several.
    """
    arms, several = set(runs["arm"]), min(table.shape) > 1
    others = [name for name in (REFERENCE, "dropout") if name in arms and ARM in arms]
    return {
        "effects": [effects_plot(effects_by_dataset(runs, ARM, other), ARM, other, part) for other in others],
        "comparison": comparison_map(table, part) if several else None,
        "rank_diagram": rank_diagram(table, part=part) if several else None,
        "ranks": ranks(runs, block_of, part) if runs["model"].nunique() > 1 or len(table) == 1 else None,
        "heat_map": heat_map(runs, part=part) if len(arms) > 1 and REFERENCE in arms else None,
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


def _growing(records: Sequence[RunRecord], plan: Plan, dataset: str) -> dict[str, list[dict[str, float]]]:
    """Return the epochs of the best network on a data set of every arm whose rule grows weights."""
    found: dict[str, RunRecord] = {}
    for record in single_networks(records):
        if record["cell"]["dataset"] != dataset or record["status"] != "ok" or not record["history"][-1].get("grown"):
            continue
        for arm in record["arms"]:
            if arm not in found or validation_error(record) < validation_error(found[arm]):
                found[arm] = record
    return {arm: found[arm]["history"] for arm in plan.arms if arm in found}


def _masks(records: Mapping[str, RunRecord], folder: Path | None, several: Sequence[str]) -> dict[str, Any] | None:
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
        "case": case_name((record["cell"]["dataset"], record["cell"]["regime"], record["cell"]["horizon"]), several),
        "length": record["cell"]["length"],
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
