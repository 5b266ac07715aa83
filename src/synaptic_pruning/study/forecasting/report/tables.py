"""Build the tables of the report: arms, errors, chosen options, how far training went, costs."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from synaptic_pruning.study.forecasting.arms import ARMS
from synaptic_pruning.study.plots import DASHES, colour
from synaptic_pruning.study.statistics import (
    CASE,
    TASK,
    average_ranks,
    block_means,
    case_name,
    effect,
    several_of,
)

_COSTS = ["train_seconds", "predict_seconds", "peak_memory_mb"]


def arms(runs: pd.DataFrame, table: pd.DataFrame, block_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one dictionary per arm: meaning, average rank, skill, error relative to the first arm, size.

    Args:
        runs: Paired runs (`paired`) of one regime.
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
            "dash": DASHES.get(name, "-"),
            "rank": ranks[name],
            "skill": skill[name],
            "relative": None if name == first else float((table[name] / table[first] - 1).median()),
            "sparsity": size.loc[name, "sparsity"],
            "alive": size.loc[name, "alive"],
        }
        for name in map(str, table.columns)
    ]


def errors(runs: pd.DataFrame, baselines: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one dictionary per data set, regime, horizon and model: what every arm and baseline scores.

    `maes` and `skills` hold means over seeds and window lengths by name, `best` is the smallest MAE.

    Args:
        runs: Paired runs (`paired`).
        baselines: Their rows of the same table.
    """
    beside = {
        key: part.groupby("arm", sort=False)[["mae", "skill"]].mean()
        for key, part in baselines[baselines["status"] == "ok"].groupby(TASK, sort=False)
    }
    rows = []
    for (*key, model), part in runs.groupby([*TASK, "model"], sort=False):
        own = part.groupby("arm", sort=False)[["mae", "skill"]].mean()
        scores = pd.concat([beside[tuple(key)], own]) if tuple(key) in beside else own
        maes = scores["mae"].to_dict()
        found = dict(zip(TASK, key, strict=True)) | {"model": model, "maes": maes}
        rows.append(found | {"skills": scores["skill"].to_dict(), "best": min(maes.values(), default=None)})
    return rows


def baseline_skill(runs: pd.DataFrame, baselines: pd.DataFrame, block_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one dictionary per baseline: its mean skill, and how often the networks of every arm lose to it.

    An arm stands for its best model on a block, by validation error; a block counts as lost where the baseline's test
    error is smaller.

    Args:
        runs: Paired runs (`paired`) of one regime.
        baselines: Their rows of the same table.
        block_of: Block of every data set.
    """
    by_model = runs.groupby([*TASK, "model", "arm"], sort=False)[["mae", "validation_mae"]].mean().reset_index()
    best = by_model.loc[by_model.groupby([*TASK, "arm"], sort=False)["validation_mae"].idxmin()]
    found = []
    for name, part in baselines[baselines["status"] == "ok"].groupby("arm", sort=False):
        own = part.groupby(TASK)["mae"].mean().rename("of baseline")
        both = best.join(own, on=TASK).dropna(subset="of baseline")
        lost = (
            (both["mae"] / both["of baseline"])
            .map(np.log)
            .groupby([both["arm"], both["dataset"].map(lambda dataset: block_of.get(dataset, dataset))], sort=False)
        )
        counts = (lost.mean() > 0).groupby("arm", sort=False).agg(["sum", "size"])
        skill = block_means(part, "skill", block_of)[name].mean()
        found.append({"name": name, "skill": float(skill), "lost": counts.to_dict("index")})
    return found


def lost_to(runs: pd.DataFrame, baselines: pd.DataFrame, name: str) -> dict[str, Any] | None:
    """List the data sets where a baseline has a smaller test error than the mean of every arm of every model.

    Args:
        runs: Paired runs (`paired`).
        baselines: Their rows of the same table.
        name: Name of the baseline.

    Returns:
        `name`, the number `of` cases, and the `series`, each a `case_name`;
        None where the baseline has no runs or loses everywhere.
    """
    own = baselines[(baselines["arm"] == name) & (baselines["status"] == "ok")].groupby(TASK)["mae"].mean()
    best = runs.groupby([*TASK, "model", "arm"])["mae"].mean().groupby(TASK).min()
    both = pd.DataFrame({"network": best, "baseline": own}).dropna()
    lost = both.index[both["baseline"] < both["network"]]
    series = [case_name(case, several_of(runs)) for case in lost]
    return {"name": name, "of": len(both), "series": series} if series else None


def effects(runs: pd.DataFrame, arm: str, block_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one dictionary per regime and other arm: `regime`, and the `effect` of an arm against the other.

    Args:
        runs: Paired runs (`paired`).
        arm: The arm to judge; without runs of it there are no effects.
        block_of: Source of every data set.
    """
    found = []
    for regime, part in runs.groupby("regime", sort=False):
        table = block_means(part, block_of=block_of)
        if arm in table:
            others = [str(other) for other in table if other != arm]
            found += [{"regime": regime, "effect": effect(table, arm, other)} for other in others]
    return found


def unfinished(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the runs whose best epoch lies in the last tenth of those allowed: they might have gone on learning.

    Args:
        results: Table of all runs.

    Returns:
        One dictionary for "all arms", where there are several, and one per arm: arm, share in [0, 1], and as series
        the cases (`case_name`) where it is more than half of the runs.
    """
    well = results[results["status"] == "ok"]
    late = (well["best_epoch"] > 0.9 * well["most_epochs"]).astype(float)
    arms = {"all arms": well} if well["arm"].nunique() > 1 else {}
    arms |= {str(arm): part for arm, part in well.groupby("arm", sort=False)}
    found = []
    for arm, part in arms.items():
        by_case = late[part.index].groupby([part[column] for column in TASK], sort=False).mean()
        series = [case_name(case, several_of(results)) for case in by_case.index[by_case > 0.5]]
        found.append({"arm": arm, "share": float(late[part.index].mean()), "series": series})
    return found


def options(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Count how often each arm took which option, by model.

    An arm chooses once per data set, regime, model, window length and horizon.

    Args:
        results: Table of all runs.
    """
    keys = ["arm", "option", *CASE]
    choices = results[keys].drop_duplicates()
    if choices.empty:
        return []
    counts: dict[tuple[str, str], Counter[str]] = {}
    for _, choice in choices.iterrows():
        counts.setdefault((choice["arm"], choice["option"]), Counter())[choice["model"]] += 1
    order = {name: place for place, name in enumerate(ARMS)}
    return [
        {"arm": arm, "option": option, "counts": counted, "total": counted.total()}
        for (arm, option), counted in sorted(counts.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    ]


def costs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the median costs of every model and arm, and each relative to the first arm.

    A ratio is the geometric mean over data sets and window lengths of the ratio of medians over seeds. Medians over
    everything would compare the costs of different data.

    Args:
        runs: Paired runs (`paired`).
    """
    medians = runs.groupby(["model", "arm"], sort=False)[_COSTS].median()
    cases = runs.pivot_table(index=CASE, columns="arm", values=_COSTS, aggfunc="median")
    first = next(iter(runs["arm"]))
    rows = []
    for (model, arm), row in zip(medians.index.tolist(), medians.to_dict("records"), strict=True):
        here = cases.xs(model, level="model").astype(float)
        ratios = {f"{cost} ratio": float(np.exp(np.log(here[cost, arm] / here[cost, first]).mean())) for cost in _COSTS}
        rows.append({"model": model, "arm": arm, **{cost: row[cost] for cost in _COSTS}, **ratios})
    return rows
