"""`report.html`: one self-contained page, the answer first, the evidence below, the losses shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from synaptic_pruning.study import figures
from synaptic_pruning.study.arms import ARMS
from synaptic_pruning.study.cells import versions
from synaptic_pruning.study.exported import BATCHES, Exported
from synaptic_pruning.study.plan import Plan
from synaptic_pruning.study.results import best_records, single_networks, validation_error
from synaptic_pruning.study.statistics import against, average_ranks, blocks, friedman, paired
from synaptic_pruning.study.storage import write_atomically
from synaptic_pruning.study.verdict import ARM, judge, losses, lost_to_persistence, signed

Record = Mapping[str, Any]
BASELINES = ("persistence", "seasonal naive")


@dataclass(frozen=True)
class Dataset:
    """What the page says about a data set."""

    name: str
    target: str
    rows: int
    channels: int
    season: int
    digest: str


def write_report(
    path: Path,
    results: pd.DataFrame,
    records: Sequence[Record],
    *,
    plan: Plan,
    datasets: Sequence[Dataset],
    command: str,
    exported: Sequence[Exported] = (),
    trainings: int | None = None,
) -> None:
    """Write the page.

    Args:
        path: where.
        results: the table of runs, `results.to_table(records)`.
        records: the selected records, `selection.select`.
        plan: what was varied and what was fixed.
        datasets: what the cells ran on.
        command: what to type to get this page again.
        exported: what became of the pruned networks once exported.
        trainings: how many networks were trained, those that no arm chose included; all records when None.
    """
    page = render(
        results, records, plan=plan, datasets=datasets, command=command, exported=exported, trainings=trainings
    )
    write_atomically(path, page)


def render(
    results: pd.DataFrame,
    records: Sequence[Record],
    *,
    plan: Plan,
    datasets: Sequence[Dataset],
    command: str,
    exported: Sequence[Exported] = (),
    trainings: int | None = None,
) -> str:
    """Return the page as HTML; every text that comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("synaptic_pruning.study", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "fixed": _fixed, "p": _p, "signed": _signed}
    runs, left_out = paired(results)
    failed = results[results["status"] != "ok"]
    table = blocks(runs)
    return environment.get_template("report.html.jinja").render(
        verdict=judge(runs),
        persistence=lost_to_persistence(runs),
        plan=asdict(plan),
        datasets=datasets,
        absent=[d.name for d in datasets if d.name not in table.index],
        counts={
            "runs": len(results),
            "trainings": trainings or len(records),
            "failed": len(failed),
            "left_out": left_out,
        },
        arms=_arms(runs, table, plan.arms),
        errors=_errors(runs, records),
        baselines=BASELINES,
        friedman=_friedman(runs),
        pairs=against(table, ARM) if ARM in table else [],
        arm=ARM,
        figures=_figures(runs, records),
        legend=[{"name": name, "colour": figures.COLOURS[name], "dash": figures.DASHES[name]} for name in plan.arms],
        markers=dict(zip(plan.models, ("●", "■", "▲", "◆", "▼"), strict=False)),
        costs=_costs(runs),
        exported=[asdict(one) for one in exported],
        batches=BATCHES,
        losses=losses(runs).to_dict("records"),
        runs=results.to_dict("records"),
        failed=failed.to_dict("records"),
        command=command,
        versions=versions(),
    )


def _arms(runs: pd.DataFrame, table: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """One dictionary an arm: its meaning, average rank, skill, error relative to the first arm, and its size."""
    if runs.empty:
        return []
    ranks = average_ranks(table)
    skill = blocks(runs, "skill").mean()
    size = runs.groupby("arm")[["sparsity", "alive"]].mean().astype(float)
    return [
        {
            "name": name,
            "meaning": ARMS[name].meaning,
            "colour": figures.COLOURS[name],
            "rank": ranks[name],
            "skill": skill[name],
            "relative": None if name == names[0] else float((table[name] / table[names[0]] - 1).median()),
            "sparsity": size.loc[name, "sparsity"],
            "alive": size.loc[name, "alive"],
        }
        for name in names
    ]


def _errors(runs: pd.DataFrame, records: Sequence[Record]) -> list[dict[str, Any]]:
    """One dictionary a data set and model: the mean test MAE of every arm and of the baselines, and the best."""
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


def _friedman(runs: pd.DataFrame) -> list[dict[str, Any]]:
    parts = {"all models": runs} if runs["model"].nunique() > 1 else {}
    parts |= {str(model): part for model, part in runs.groupby("model", sort=False)}
    tests = {name: (blocks(part), friedman(blocks(part))) for name, part in parts.items()}
    return [
        {"name": name, "blocks": len(table), "ranks": average_ranks(table), "test": test}
        for name, (table, test) in tests.items()
    ]


def _figures(runs: pd.DataFrame, records: Sequence[Record]) -> dict[str, Any]:
    if runs.empty:
        return {}
    return {
        "training": figures.training(single_networks(records)),
        "weights": figures.weights(runs),
        "forecasts": figures.forecasts(_shown(records)),
        "costs": figures.costs(runs),
        "ranks": figures.ranks(runs),
    }


def _shown(records: Sequence[Record]) -> list[Record]:
    """The cells whose forecasts are drawn: of every data set the best model on validation data, one seed of it."""
    best: dict[str, Record] = {}
    for (dataset, _), record in best_records(records).items():
        if validation_error(record) < validation_error(best.get(dataset, {"status": "absent"})):
            best[dataset] = record
    same = ("dataset", "model", "length", "seed")
    chosen = {tuple(record["cell"][key] for key in same) for record in best.values()}
    return [r for r in records if r["status"] == "ok" and tuple(r["cell"][key] for key in same) in chosen]


def _costs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    columns = ["train_seconds", "predict_seconds", "peak_memory_mb"]
    medians = runs.groupby(["model", "arm"], sort=False)[columns].median().reset_index()
    return [{str(key): value for key, value in row.items()} for row in medians.to_dict("records")]


def _number(value: Any, digits: int = 4) -> str:
    """Significant digits without an exponent where it can be avoided; an en dash for what is missing.

    Example:
        >>> _number(0.123456), _number(12345.678), _number(None), _number(17, 0), _number(88.0)
        ('0.1235', '12,346', '–', '17', '88.00')
    """
    if value is None or pd.isna(value):
        return "–"
    if digits == 0 or float(value) == 0:
        return f"{value:,.0f}"
    text = f"{value:#,.{digits}g}".rstrip(".")
    return f"{value:,.0f}" if "e+" in text or abs(value) >= 10**digits else text


def _fixed(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}".replace("-", "−")


def _signed(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else signed(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
