"""Write `report.html` of a comparison on images: one self-contained page, the answer first."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from synaptic_pruning.study.classification import plots as figures
from synaptic_pruning.study.classification.arms import ARMS, SPARSITY
from synaptic_pruning.study.classification.cells import ImageRecord
from synaptic_pruning.study.classification.plan import ImagePlan
from synaptic_pruning.study.classification.results import REFERENCES, Row, layer_rows, paired, summary_rows
from synaptic_pruning.study.classification.verdict import judge, percent, points
from synaptic_pruning.study.engine import About, versions, write_atomically
from synaptic_pruning.study.plots import COLOURS, DASHES, Panel
from synaptic_pruning.study.templates import environment
from synaptic_pruning.tasks.classification import ClassificationTask


def write_report(
    path: Path,
    table: pd.DataFrame,
    records: Sequence[ImageRecord],
    *,
    plan: ImagePlan,
    task: ClassificationTask,
    about: About,
    cells: Path,
) -> None:
    """Write the page; see `render`."""
    write_atomically(path, render(table, records, plan=plan, task=task, about=about, cells=cells))


def render(
    table: pd.DataFrame,
    records: Sequence[ImageRecord],
    *,
    plan: ImagePlan,
    task: ClassificationTask,
    about: About,
    cells: Path,
) -> str:
    """Return the page as HTML; every text that comes from outside is escaped, and no script but its own may run.

    Args:
        table: The table of `records` (`results.to_table`).
        records: One a run, in the order of the page.
        plan: What was varied and what was fixed.
        task: The images.
        about: The command that gave the page.
        cells: Where the networks lie.
    """
    templates = environment(percent=_percent, number=_number, points=points)
    runs = paired(table)
    rows = summary_rows(runs)
    failed = table[table["status"] != "ok"]
    script = templates.get_template("sort.js").render()
    return templates.get_template("images.html.jinja").render(
        about=about,
        plan=plan,
        task=task,
        arms=[ARMS[name] for name in plan.arms],
        references=[name for name in REFERENCES if name in plan.arms and len(plan.arms) > 1],
        counts={"runs": len(table), "failed": len(failed), "left_out": len(table) - len(runs)},
        verdict=judge(rows),
        rows=[(row, _ratio(row, rows)) for row in rows],
        idle=[row.model for row in rows if row.arm == "disuse" and row.sparsity == 0],
        matched=[name for name in plan.arms if ARMS[name].matched],
        sparsity=SPARSITY,
        majority=float(runs["majority"].iloc[0]) if len(runs) else None,
        layers=layer_rows(records, runs),
        figures=_figures(records, runs, task, cells),
        legend=[{"name": n, "colour": COLOURS[n], "dash": DASHES[n]} for n in plan.arms],
        runs=table.to_dict("records"),
        failed=failed.to_dict("records"),
        versions=versions(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _figures(
    records: Sequence[ImageRecord], runs: pd.DataFrame, task: ClassificationTask, cells: Path
) -> dict[str, list[Panel]]:
    used = set(runs["config_hash"])
    well = [record for record in records if record["hash"] in used]
    first = runs.groupby("model")["seed"].min().to_dict()
    shown = [record for record in well if record["cell"]["seed"] == first[record["cell"]["model"]]]
    return {
        "learning": figures.learning(well) if well else [],
        "fields": figures.fields(shown, task, cells),
        "streaks": figures.streaks(well),
    }


def _ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """Training time over that of the dense network."""
    dense = next((one for one in rows if one.model == row.model and one.arm == "none"), None)
    return row.train_seconds / dense.train_seconds if dense and dense.train_seconds else None


def _percent(value: Any, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else percent(value, digits)


def _number(value: Any, digits: int = 0) -> str:
    """Write a number with thousands apart; an en dash for what is missing.

    Example:
        >>> _number(12345.6), _number(2.345, 1), _number(None)
        ('12,346', '2.3', '–')
    """
    return "–" if value is None or pd.isna(value) else f"{value:,.{digits}f}"
