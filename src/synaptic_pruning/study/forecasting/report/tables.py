"""Build the tables of the report: arms, errors, chosen settings, costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.forecasting.results import RunRecord
from synaptic_pruning.study.plots import colour
from synaptic_pruning.study.statistics import average_ranks, block_means

BASELINES = ("persistence", "seasonal naive")
_COSTS = ["train_seconds", "predict_seconds", "peak_memory_mb"]


def arms(runs: pd.DataFrame, table: pd.DataFrame, block_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one dictionary per arm: meaning, average rank, skill, error relative to the first arm, size.

    Args:
        runs: Paired runs (`paired`).
        table: Errors, one row per block, one column per arm.
        block_of: Block of every data set.
    """
    ranks = average_ranks(table)
    skill = block_means(runs, "skill", block_of).mean()
    size = runs.groupby("arm")[["sparsity", "alive"]].mean().astype(float)
    first = str(table.columns[0])
    return [
        {
            "name": name,
            "meaning": ARMS[name].meaning,
            "colour": colour(name),
            "rank": ranks[name],
            "skill": skill[name],
            "relative": None if name == first else float((table[name] / table[first] - 1).median()),
            "sparsity": size.loc[name, "sparsity"],
            "alive": size.loc[name, "alive"],
        }
        for name in map(str, table.columns)
    ]


def errors(runs: pd.DataFrame, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return one dictionary per data set and model: the mean test MAE of every arm and baseline, and the best.

    Args:
        runs: Paired runs (`paired`).
        records: Records that hold the scores of the baselines.
    """
    baselines: dict[str, dict[str, float]] = {}
    for record in records:
        if "baselines" in record:
            scores = record["baselines"]
            baselines.setdefault(record["cell"]["dataset"], {name: scores[name]["mae"] for name in BASELINES})
    rows = []
    for (dataset, model), part in runs.groupby(["dataset", "model"], sort=False):
        maes = baselines[str(dataset)] | part.groupby("arm", sort=False)["mae"].mean().to_dict()
        best = min((v for v in maes.values() if v is not None), default=None)
        rows.append({"dataset": dataset, "model": model, "maes": maes, "best": best})
    return rows


def settings(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Count how often each arm chose which setting, by model.

    An arm chooses once per data set, model and window length.

    Args:
        results: Table of all runs.
    """
    keys = ["arm", "setting", "model", "dataset", "length"]
    choices = results.loc[results["setting"] != "", keys].drop_duplicates()
    if choices.empty:
        return []
    counts: dict[tuple[str, str], Counter[str]] = {}
    for _, choice in choices.iterrows():
        counts.setdefault((choice["arm"], choice["setting"]), Counter())[choice["model"]] += 1
    order = {name: place for place, name in enumerate(ARMS)}
    return [
        {"arm": arm, "setting": setting, "counts": counted, "total": counted.total()}
        for (arm, setting), counted in sorted(counts.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    ]


def costs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the median costs of every model and arm, and each relative to the first arm.

    A ratio is the geometric mean over data sets and window lengths of the ratio of medians over seeds. Medians over
    everything would compare the costs of different data.

    Args:
        runs: Paired runs (`paired`).
    """
    medians = runs.groupby(["model", "arm"], sort=False)[_COSTS].median()
    cases = runs.pivot_table(index=["model", "dataset", "length"], columns="arm", values=_COSTS, aggfunc="median")
    first = next(iter(runs["arm"]))
    rows = []
    for (model, arm), row in zip(medians.index.tolist(), medians.to_dict("records"), strict=True):
        here = cases.xs(model, level="model").astype(float)
        ratios = {f"{cost} ratio": float(np.exp(np.log(here[cost, arm] / here[cost, first]).mean())) for cost in _COSTS}
        rows.append({"model": model, "arm": arm, **{cost: row[cost] for cost in _COSTS}, **ratios})
    return rows
